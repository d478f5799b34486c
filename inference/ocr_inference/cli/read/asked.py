"""What is requested of each document, in the words of the command line."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from ocr_inference.api.schema import OcrRequest
from ocr_inference.documents.formats.kinds import Format
from ocr_inference.documents.page import DPI
from ocr_inference.documents.selection import ALL, Selection
from ocr_inference.errors import ApiError
from ocr_wire.tasks import INFO, Task


@dataclass(frozen=True)
class Asked:
    task: Task = Task.DOCUMENT
    find_term: str | None = None
    format: Format = Format.MARKDOWN
    model: str | None = None
    pages: str | None = None
    """Such as `1-3,7`; all without."""
    dpi: float = DPI

    @property
    def selection(self) -> Selection:
        """Selected pages; raises `ApiError`."""
        return ALL if self.pages is None else Selection.parse(self.pages, "--pages")

    def request(self) -> OcrRequest:
        """Return what is requested of each page."""
        return OcrRequest(task=self.task, find_term=self.find_term, model=self.model)

    def fields(self) -> Mapping[str, str]:
        """Return the form fields of a job."""
        fields = {
            "prompt_type": self.task.value,
            "find_term": self.find_term,
            "model": self.model,
            "pages": self.pages,
            "dpi": f"{self.dpi:g}",
        }
        return {name: value for name, value in fields.items() if value is not None}

    def mark(self) -> str:
        """Return a digest of all of it: outputs of the same document with the same mark are the same."""
        text = json.dumps([*sorted(self.fields().items()), self.format])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def chosen(task: str | None, find: str | None) -> Task:
    """Return the task that is meant; raises `ApiError` where a term is missing, or without use."""
    if find is not None and not find.isprintable():
        raise ApiError(422, "invalid_value", "--find has characters that no page shows, or isn't UTF-8")
    found = Task(task or (Task.FIND if find else Task.DOCUMENT))
    if INFO[found].needs == "find_term" and not find:
        raise ApiError(422, "missing_value", f"--task {found.value} needs --find TERM")
    if INFO[found].needs != "find_term" and find:
        raise ApiError(422, "invalid_value", f"--find is of --task find, not of {found.value}")
    return found
