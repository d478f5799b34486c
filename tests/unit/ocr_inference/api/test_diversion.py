import base64
import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.api import dataurl, diversion
from ocr_inference.api.diversion import Diversion
from ocr_inference.errors import ApiError
from ocr_inference.protocol.page_file import PageFile

MARK = "a-mark-that-nobody-knows"
LONG = 160
"""Bytes of a long string here: more than any head below takes, however it is escaped."""
LONG_TEXT = 40
MAX_BYTES = 300
HEAD = "data:image/png;base64,"


def divert(body: bytes, pieces: Iterator[bytes], page: PageFile) -> Diversion:
    found = Diversion(MARK, page, MAX_BYTES, long_text=LONG_TEXT, long_bytes=LONG)
    for piece in pieces:
        found.add(piece)
    return found


def cut(body: bytes, places: list[int]) -> Iterator[bytes]:
    at = sorted({0, len(body), *(place % (len(body) + 1) for place in places)})
    return (body[start:end] for start, end in pairwise(at))


# --- the reference: the whole text is parsed, then each data URL is decoded -------------------------------------


def whole(body: bytes) -> Any:
    try:
        return resolved(msgspec.json.decode(body), None, None)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "no JSON"


def in_pieces(body: bytes, places: list[int]) -> Any:
    with PageFile.create() as page:
        found = divert(body, cut(body, places), page)
        try:
            return resolved(msgspec.json.decode(found.text), found, page)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return "no JSON"


def resolved(value: object, found: Diversion | None, page: PageFile | None) -> Any:
    """The value with the outcome of each data URL in its place."""
    if isinstance(value, dict):
        return {key: resolved(each, found, page) for key, each in value.items()}
    if isinstance(value, list):
        return [resolved(each, found, page) for each in value]
    if not isinstance(value, str) or dataurl.split(value) is None:
        return value
    try:
        if found is not None and page is not None and (url := found.place(value)) is not None:
            url.decoder.check("here")
            with page.open() as file:
                file.seek(url.start)
                return file.read(url.size)
        return dataurl.decode(value, MAX_BYTES, "here")
    except ApiError as error:
        return error.status, error.message


# --- texts ------------------------------------------------------------------------------------------------------

DATA = st.binary(max_size=MAX_BYTES + 4).map(lambda data: base64.b64encode(data).decode())
BROKEN = st.tuples(DATA, st.sampled_from(["", "=", "\n", "é", '"', "\\", "😀", "\x00", "%", "=" * 200]), DATA)
URL = st.tuples(
    st.sampled_from([HEAD, HEAD.upper(), "data:;base64,", "data:image/png,", "data:", "http://x/", ""]),
    DATA | BROKEN.map("".join),
).map("".join)
VALUE = st.recursive(
    st.none() | st.integers() | st.text(max_size=20) | URL,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=6,
)


def slashed(text: str) -> str:
    return text.replace("/", "\\/")


def escaped(text: str) -> str:
    """Each letter and digit inside of strings as an escape."""
    parts, inside, at = [], False, 0
    while at < len(text):
        each = text[at]
        if inside and each == "\\":
            parts.append(text[at : at + 2])
            at += 2
            if text[at - 1] == "u":
                parts.append(text[at : at + 4])
                at += 4
            continue
        inside ^= each == '"'
        parts.append(f"\\u{ord(each):04X}" if inside and each.isalnum() else each)
        at += 1
    return "".join(parts)


WRITTEN = st.one_of(
    VALUE.map(json.dumps),
    VALUE.map(lambda value: json.dumps(value, ensure_ascii=False, indent=1)),
    VALUE.map(json.dumps).map(slashed),
    VALUE.map(json.dumps).map(escaped),
).map(lambda text: text.encode("utf-8", "surrogatepass"))
PLACES = st.lists(st.integers(0, 10_000), max_size=12)


@given(WRITTEN, PLACES)
def test_the_outcome_is_that_of_the_whole_text(body: bytes, places: list[int]) -> None:
    assert in_pieces(body, places) == whole(body)


@given(WRITTEN, PLACES, st.integers(0, 10_000), st.binary(max_size=3), st.integers(0, 3))
def test_damaged_text_is_no_json_in_pieces_either(
    body: bytes, places: list[int], at: int, put: bytes, dropped: int
) -> None:
    at %= len(body) + 1
    damaged = body[:at] + put + body[at + dropped :]
    assert in_pieces(damaged, places) == whole(damaged)


@given(WRITTEN)
def test_text_that_comes_byte_by_byte_is_the_same(body: bytes) -> None:
    assert in_pieces(body, list(range(len(body)))) == whole(body)


@given(st.binary(min_size=LONG, max_size=MAX_BYTES), PLACES, st.sampled_from([str, slashed, escaped]))
def test_a_long_url_is_taken_out_however_it_is_written(data: bytes, places: list[int], write: Any) -> None:
    body = write(json.dumps({"a": [HEAD + base64.b64encode(data).decode()], "b": 1})).encode()
    with PageFile.create() as page:
        found = divert(body, cut(body, places), page)
        assert len(found.urls) == 1
        assert (found.urls[0].start, found.urls[0].size, page.size) == (0, len(data), len(data))
        with page.open() as file:
            assert file.read() == data
        assert len(found.text) < 2 * LONG


def test_texts_that_a_request_may_have_stay_as_they_are() -> None:
    text = HEAD + "A" * (LONG_TEXT - len(HEAD))
    body = escaped(json.dumps([text])).encode()
    assert len(body) > LONG
    with PageFile.create() as page:
        found = divert(body, iter([body]), page)
    assert (bytes(found.text), found.urls) == (body, [])


@given(st.binary(min_size=60, max_size=MAX_BYTES), st.lists(st.integers(0, 1000)))
def test_base64_alone_is_taken_out_where_it_is_a_picture(data: bytes, places: list[int]) -> None:
    body = json.dumps({"image": base64.encodebytes(data).decode(), "prompt": "x" * LONG_TEXT}).encode()
    with PageFile.create() as page:
        found = Diversion(MARK, page, MAX_BYTES, long_text=LONG_TEXT, long_bytes=60, bare=True)
        for piece in cut(body, places):
            found.add(piece)
        sent = msgspec.json.decode(found.text)
        url = found.place(sent["image"])
        assert url is not None
        url.decoder.check("image")
        assert (url.start, url.size, sent["prompt"]) == (0, len(data), "x" * LONG_TEXT)


def test_a_mark_is_longer_than_any_text_of_a_request() -> None:
    body = json.dumps([HEAD + "AAAA" * 60]).encode()
    with PageFile.create() as page:
        (text,) = msgspec.json.decode(divert(body, iter([body]), page).text)
    assert len(text) > LONG_TEXT


def test_a_mark_of_a_client_is_nothing() -> None:
    with PageFile.create() as page:
        found = divert(b"", iter([]), page)
        for url in (HEAD, HEAD + "other:0:", HEAD + MARK[:-1], HEAD + MARK[:-1] + ":0", ""):
            assert found.place(url) is None


def test_what_is_refused_leaves_the_file() -> None:
    good = base64.b64encode(bytes(200)).decode()
    urls = [HEAD + good, HEAD + good + "=" * 200, HEAD + "AAAA" * 200, HEAD + good]
    body = json.dumps(urls).encode()
    with PageFile.create() as page:
        found = divert(body, cut(body, [100, 400, 900]), page)
        assert page.size == 400
    assert [url.size for url in found.urls] == [200, 0, 0, 200]


def test_json_itself_is_bounded() -> None:
    with PageFile.create() as page, pytest.raises(ApiError) as caught:
        divert(b"", iter([b'["' + b"x" * diversion.MAX_TEXT_BYTES, b"x"]), page)
    assert (caught.value.status, caught.value.code) == (413, "body_too_large")
