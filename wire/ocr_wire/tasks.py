"""What can be asked of a page, one row a task.

Everything that lists tasks follows from `TASKS`: parsers, hints, the plugin's options, tables of the documentation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal


class Task(StrEnum):
    """Task of a page, as a request names it (`prompt_type` over HTTP)."""

    DOCUMENT = "document"
    OCR = "ocr"
    FREE = "free"
    FIGURE = "figure"
    DESCRIBE = "describe"
    FIND = "find"
    FREEFORM = "freeform"


@dataclass(frozen=True, slots=True)
class TaskInfo:
    task: Task
    meaning: str
    """What the answer is, for documentation."""
    needs: Literal["find_term", "custom_prompt"] | None = None
    """The field that has to come with it."""
    locates: bool = False
    """Whether an answer says where on the page things are, if the model can."""

    @property
    def takes_prompt(self) -> bool:
        """Whether the sender's own prompt is used."""
        return self.needs == "custom_prompt"


TASKS: Final = (
    TaskInfo(Task.DOCUMENT, "the whole page as Markdown", locates=True),
    TaskInfo(Task.OCR, "every line, with its place", locates=True),
    TaskInfo(Task.FREE, "plain text without layout"),
    TaskInfo(Task.FIGURE, "what a chart or drawing says"),
    TaskInfo(Task.DESCRIBE, "what the picture shows"),
    TaskInfo(Task.FIND, "where `find_term` stands", needs="find_term", locates=True),
    TaskInfo(Task.FREEFORM, "the sender's own `custom_prompt`", needs="custom_prompt"),
)
INFO: Final[Mapping[Task, TaskInfo]] = {each.task: each for each in TASKS}
LOCATING: Final = frozenset(each.task for each in TASKS if each.locates)
WORDS: Final = tuple(each.value for each in Task)

RESOLUTIONS: Final = ("tiny", "small", "base", "large", "gundam")
"""Page sizes that can be asked for, of models that have them."""
