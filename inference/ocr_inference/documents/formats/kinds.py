"""Formats in which what was read is handed out."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Format(StrEnum):
    MARKDOWN = "markdown"
    TEXT = "text"
    JSON = "json"
    DOCX = "docx"
    PDF = "pdf"


MEDIA: Final[Mapping[Format, str]] = {
    Format.MARKDOWN: "text/markdown; charset=utf-8",
    Format.TEXT: "text/plain; charset=utf-8",
    Format.JSON: "application/json",
    Format.DOCX: "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    Format.PDF: "application/pdf",
}
"""Content types."""

SUFFIXES: Final[Mapping[Format, str]] = {
    Format.MARKDOWN: "md",
    Format.TEXT: "txt",
    Format.JSON: "json",
    Format.DOCX: "docx",
    Format.PDF: "pdf",
}
"""Ends of files' names."""

MADE_APART: Final = frozenset({Format.TEXT, Format.DOCX, Format.PDF})
"""Formats that a process of its own makes: Markdown is parsed for them, or what came from outside by native code."""
