"""Names of files that are downloaded are safe, whatever was sent."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.api.exports import names


@pytest.mark.parametrize(
    ("sent", "stem"),
    [
        ("contract.pdf", "contract"),
        ("../../etc/passwd", "passwd"),
        ("C:\\scans\\Rechnung 1.tar.gz", "Rechnung 1.tar"),
        ("発票.png", "発票"),
        (".hidden", "hidden"),
        ("", "document"),
        ("...", "document"),
        ("CON.pdf", "document"),
        ("a\r\nSet-Cookie: x", "a__Set-Cookie_ x"),
        ("x\u202egpj.exe", "x_gpj"),
    ],
)
def test_a_name_becomes_a_safe_one(sent: str, stem: str) -> None:
    assert names.stem(sent) == stem


@given(st.text())
def test_the_header_is_one_line_of_ascii_and_names_no_folder(sent: str) -> None:
    header = names.disposition(sent, "pdf")
    assert re.fullmatch(
        r"attachment; filename=\"[\w. ()-]{1,110}\.pdf\"; filename\*=UTF-8''[\w.~%()-]+\.pdf",
        header,
        re.ASCII,
    )
    assert "/" not in names.stem(sent)
