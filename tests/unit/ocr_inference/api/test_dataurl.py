import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.api import dataurl
from ocr_inference.errors import ApiError

PNG = "data:image/png;base64,"


def url(data: bytes, head: str = PNG) -> str:
    return head + base64.b64encode(data).decode()


def refused(text: str, limit: int = 1000) -> ApiError:
    with pytest.raises(ApiError) as caught:
        dataurl.decode(text, limit, "here")
    assert caught.value.param == "here"
    return caught.value


@given(st.binary(max_size=200))
def test_data_comes_out_as_it_went_in(data: bytes) -> None:
    assert dataurl.decode(url(data), 200, "here") == data


@pytest.mark.parametrize("size", [(3 << 20) - 1, 3 << 20, (3 << 20) + 1, (6 << 20) + 2])
def test_large_pictures_are_decoded_in_steps(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    assert dataurl.decode(url(data[:size]), size, "here") == data[:size]


def test_base64_alone_is_a_picture_where_it_may_be() -> None:
    for data in (b"abc", bytes(1000)):
        text = base64.encodebytes(data).decode()
        assert dataurl.decode(text, 1000, "here", bare=True) == data
        assert refused(text).code == "invalid_value"
        assert dataurl.decode(url(data), 1000, "here", bare=True) == data
    with pytest.raises(ApiError) as caught:
        dataurl.decode("http://example.org/x.png", 1000, "here", bare=True)
    assert caught.value.code == "remote_url"


@given(st.binary(max_size=200), st.integers(1, 76), st.sampled_from(["\n", "\r\n", " ", "\t", "\n\n  "]))
def test_lines_padding_and_the_alphabet_of_urls_do_not_matter(data: bytes, width: int, gap: str) -> None:
    standard = base64.b64encode(data).decode()
    for text in (standard, standard.rstrip("="), base64.urlsafe_b64encode(data).decode()):
        wrapped = gap.join(text[at : at + width] for at in range(0, len(text), width))
        for written in (wrapped, gap + wrapped + gap):
            assert dataurl.decode(PNG + written, 200, "here") == data


def test_lines_do_not_count_against_the_size() -> None:
    data = bytes(range(256)) * 1000
    assert dataurl.decode(PNG + base64.encodebytes(data).decode(), len(data), "here") == data


@pytest.mark.parametrize("head", ["DATA:image/png;BASE64,", "data:;base64,", "data:image/png;name=a;base64,"])
def test_heads_are_read_loosely(head: str) -> None:
    assert dataurl.decode(url(b"abc", head), 10, "here") == b"abc"


@pytest.mark.parametrize(
    "scheme", ["http://10.0.0.1/x.png", "https://example.org/x.png", "HTTPS://example.org"]
)
def test_remote_urls_are_off_and_the_answer_says_so(scheme: str) -> None:
    error = refused(scheme)
    assert (error.status, error.code) == (422, "remote_url")
    assert "remote URLs are off" in error.message
    assert "data URL" in error.message


@pytest.mark.parametrize(
    "text",
    [
        *("", "data:", "data:image/png,abc", "file:///etc/passwd", "/etc/passwd", "data:image/png;base64"),
        *(
            PNG + "a",
            PNG + "YWJjY",
            PNG + "a=b",
            PNG + "YQ==YQ==",
            PNG + "YW.j",
            PNG + "YWJj%0A",
            PNG + "é" * 4,
        ),
        "data:" + "x" * 300 + ";base64,YWJj",
        PNG + base64.b64encode(b"x" * ((3 << 20) - 1)).decode() + "YWJj",  # padding at a step's end
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    assert refused(text, 10 << 20).code == "invalid_value"


def test_size_is_bounded_before_and_after_decoding() -> None:
    assert dataurl.decode(url(b"x" * 100), 100, "here") == b"x" * 100
    for size in (101, 102, 103, 10_000):
        error = refused(url(b"x" * size), 100)
        assert (error.status, error.code) == (413, "upload_too_large")


@given(st.text(max_size=60))
def test_any_text_is_decoded_or_refused(text: str) -> None:
    assert outcome(PNG + text) in {200, 413, 422}


def outcome(text: str) -> int:
    try:
        dataurl.decode(text, 100, "here")
    except ApiError as error:
        return error.status
    return 200
