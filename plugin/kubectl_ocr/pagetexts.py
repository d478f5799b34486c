"""What was read of a document, as it is printed and written. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from kubectl_ocr import text

RULE: Final = "\n\n---\n\n"
"""Between pages of Markdown, as in the server's answers."""
MAX_ERROR: Final = 300


@dataclass(frozen=True)
class Text:
    answer: Mapping[str, Any]
    """For programs; of a picture it is the server's own."""
    pages: tuple[str, ...]
    errors: tuple[str, ...] = ()
    """Pages that couldn't be read, a sentence each."""
    made: bytes | None = None
    """A file of a format that the server makes."""

    def printed(self, format_: str, name: str) -> str:
        """Return it for standard output; with a name where there are several documents."""
        if format_ == "json":
            body = {"document": name, **self.answer} if name else self.answer
            encoded = msgspec.json.encode(body)
            return encoded.decode() if name else msgspec.json.format(encoded, indent=2).decode()
        head = f"==> {name} <==\n" if name else ""
        return head + text.lines(self._joined(format_))

    def encoded(self, format_: str, name: str) -> bytes:
        """Return it for a file."""
        if self.made is not None:
            return self.made
        if format_ == "json":
            return (
                msgspec.json.format(msgspec.json.encode({"document": name, **self.answer}), indent=2) + b"\n"
            )
        return (self._joined(format_) + "\n").encode(errors="replace")

    def _joined(self, format_: str) -> str:
        return ("\n\n" if format_ == "text" else RULE).join(self.pages)


def of_answer(answer: Mapping[str, Any]) -> Text:
    """Return an answer of `POST /ocr`."""
    listed = answer.get("errors")
    unread = tuple(text.clean(str(each), MAX_ERROR) for each in listed) if isinstance(listed, list) else ()
    return Text(answer, (str(answer.get("text", "")),), unread)


def of_pages(pages: Sequence[Mapping[str, Any]], total: int) -> Text:
    """Return the result of a job; a page that couldn't be read has a comment in its place."""
    texts, errors = [], []
    for position, page in enumerate(pages):
        error = page.get("error")
        if error is None:
            texts.append(str(page.get("text", "")))
            continue
        index = page.get("index")
        number = index + 1 if isinstance(index, int) else position + 1
        why = error.get("message") if isinstance(error, dict) else error
        errors.append(text.clean(f"page {number}: {why}", MAX_ERROR))
        texts.append(f"<!-- {errors[-1].replace('--', '- -')} -->")
    if (missing := total - len(pages)) > 0:
        errors.append(f"{missing} of {total} pages weren't read")
    answer = {"text": RULE.join(texts), "page_count": total, "pages": pages, "errors": errors}
    return Text(answer, tuple(texts), tuple(errors))
