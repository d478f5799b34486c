"""Answer of a whole document, made of those of its pages."""

from collections.abc import Sequence
from typing import Any

from ocr_inference.api.reading import ReadPage
from ocr_inference.api.schema import DocumentAnswer, OcrAnswer, PageAnswer
from ocr_inference.errors import ApiError

RULE = "\n\n---\n\n"
"""What stands between the texts of pages."""
_OF_PAGES = frozenset({"finish_reason", "has_boxes", "memory"})
"""Keys of the metadata that only pages have."""
_SUMS = frozenset({"wait_seconds", "engine_seconds", "prompt_tokens", "completion_tokens"})


def answer(read: Sequence[ReadPage[OcrAnswer]], page_count: int) -> DocumentAnswer:
    """Make the answer of a document with so many pages, of which at least one was read."""
    answers = [page.answer for page in read if page.answer is not None]
    return DocumentAnswer(
        text=RULE.join(each.text for each in answers),
        raw_text=RULE.join(each.raw_text for each in answers),
        boxes=answers[0].boxes if len(read) == 1 else (),
        image_dims=answers[0].image_dims,
        prompt_type=answers[0].prompt_type,
        message=answers[0].message,
        output_file=answers[0].output_file,
        metadata=_metadata([each.metadata for each in answers]),
        page_count=page_count,
        pages=tuple(of_page(page) for page in read),
        errors=tuple(of_fault(page.index, page.error) for page in read if page.error),
    )


def of_fault(index: int, error: ApiError) -> str:
    """Return why a page couldn't be read, as it stands in `errors`: with its number, once."""
    number, message = f"page {index + 1}", error.info.message
    return message if message.startswith(f"{number} ") else f"{number}: {message}"


def of_picture(read: OcrAnswer) -> DocumentAnswer:
    """Return a picture's answer as that of a document of one page."""
    return answer([ReadPage(0, read)], 1)


def of_page(page: ReadPage[OcrAnswer]) -> PageAnswer:
    """Return a page as it stands among others."""
    if page.answer is None:
        return PageAnswer(index=page.index, error=None if page.error is None else page.error.info)
    answer = page.answer
    return PageAnswer(
        index=page.index,
        text=answer.text,
        raw_text=answer.raw_text,
        boxes=answer.boxes,
        image_dims=answer.image_dims,
        dpi=page.dpi,
        lines=answer.lines,
        metadata=answer.metadata,
    )


def _metadata(pages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what is true of all pages."""
    if len(pages) == 1:
        return pages[0]
    found = {name: value for name, value in pages[0].items() if name not in _OF_PAGES}
    for name in _SUMS & found.keys():
        found[name] = round(sum(page[name] for page in pages), 4)
    return {**found, "has_boxes": any(page["has_boxes"] for page in pages)}
