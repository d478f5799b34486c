"""Tokens are taken as people leave them, and what can't be sent is refused without being quoted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_wire import tokens

SENDABLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1)
AROUND = st.text("\n\r\t \x0b\x0c\xa0", max_size=4)


@given(SENDABLE, AROUND, AROUND, st.sampled_from(["", "\ufeff"]))
def test_what_is_around_a_token_is_no_part_of_it(token: str, before: str, after: str, mark: str) -> None:
    raw = f"{mark}{before}{token}{after}"
    assert tokens.parse(raw) == token
    assert tokens.parse(raw.encode()) == token


@pytest.mark.parametrize("raw", ["", "\n", "\ufeff", " \r\n\t", b"\xef\xbb\xbf\r\n"])
def test_nothing_is_no_token(raw: str | bytes) -> None:
    assert tokens.parse(raw) == ""


@pytest.mark.parametrize(
    "raw", ["s3cr\net", "s3cr\x00et", "s3crét", "s3cr\x7fet", b"s3cr\xffet", "s3cr\tet", "s3cr\r\nHost: x"]
)
def test_what_cannot_be_in_a_header_is_refused_and_not_quoted(raw: str | bytes) -> None:
    with pytest.raises(tokens.Unusable) as refused:
        tokens.parse(raw)
    assert "s3cr" not in str(refused.value) + repr(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None
