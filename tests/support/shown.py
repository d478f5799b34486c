"""Pages in the web page as if they had been read: put into its store, so that a test chooses what a model wrote."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from playwright.sync_api import Page

from ocr_inference.families.tags import SCALE

WIDTH: Final = 1000
HEIGHT: Final = 1400
"""Pixels of the pages as their boxes count them."""

_SHOW: Final = """async ({pages, width, height, shrunk, name}) => {
  const store = await import("/ui/store.js");
  const canvas = Object.assign(document.createElement("canvas"), {width: width / shrunk, height: height / shrunk});
  const context = canvas.getContext("2d");
  const draw = async ({result}) => {
    context.fillStyle = "#fff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    (result?.boxes ?? []).forEach(({box: [x1, y1, x2, y2]}, number) => {
      context.fillStyle = `hsl(${90 * number} 50% 80%)`;
      context.fillRect(x1 / shrunk, y1 / shrunk, (x2 - x1) / shrunk, (y2 - y1) / shrunk);
    });
    return new Promise((done) => canvas.toBlob(done, "image/png"));
  };
  const pictures = await Promise.all(pages.map(draw));
  const docId = store.newId("document");
  const made = pages.map((each, index) => ({
    id: store.newId("page"), docId, index, thumb: null, picture: URL.createObjectURL(pictures[index]),
    size: {w: canvas.width, h: canvas.height}, shown: null,
    readings: each.state === null ? [] : [{
      jobId: "job-0", asked: {task: each.task, model: "quick", findTerm: each.term, prompt: ""},
      state: each.state, result: each.result, error: each.error,
    }],
  }));
  const file = new File([pictures[0]], name, {type: "image/png"});
  const kind = pages.length > 1 ? "pdf" : "picture";
  store.add([{id: docId, name, path: name, file, kind, pageCount: pages.length}], made);
  return made.map((page) => page.id);
}"""


@dataclass(frozen=True)
class Part:
    """Part of a page as a model writes it."""

    label: str
    box: tuple[int, int, int, int]
    text: str = ""

    @property
    def placed(self) -> dict[str, Any]:
        x1, y1, x2, y2 = self.box
        return {"text": self.label, "corners": [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]}

    @property
    def written(self) -> str:
        x1, y1, x2, y2 = self.box
        places = [
            round(value * SCALE / side)
            for value, side in zip((x1, y1, x2, y2), (WIDTH, HEIGHT, WIDTH, HEIGHT), strict=True)
        ]
        return f"<|ref|>{self.label}<|/ref|><|det|>[{places}]<|/det|>\n{self.text}"


@dataclass(frozen=True)
class Shown:
    """Page of the list, and what was read of it."""

    parts: Sequence[Part] = ()
    text: str | None = None
    """Instead of the parts' texts."""
    task: str = "document"
    term: str = ""
    engine: str = "transformers"
    state: str | None = "done"
    """None: it was never read."""
    error: dict[str, Any] | None = None
    has_boxes: bool = True
    """Whether the answer has boxes besides those in the model's own words."""
    lines: Sequence[Part] = ()
    """Texts with their places, as pages of jobs have them."""
    metadata: dict[str, Any] = field(default_factory=dict)

    def as_json(self, index: int) -> dict[str, Any]:
        read = self.state == "done"
        text = "\n\n".join(part.text or part.label for part in self.parts) if self.text is None else self.text
        result = {
            "index": index,
            "text": text,
            "raw_text": "\n\n".join(part.written for part in self.parts) or text,
            "boxes": [{"label": each.label, "box": each.box} for each in self.parts if self.has_boxes],
            "image_dims": {"w": WIDTH, "h": HEIGHT},
            **({"lines": [each.placed for each in self.lines]} if self.lines else {}),
            "metadata": {"engine": self.engine, "mode": self.task, **self.metadata},
        }
        return {
            "task": self.task,
            "term": self.term,
            "state": self.state,
            "error": self.error,
            "result": result if read else None,
        }


def show(page: Page, *pages: Shown, shrunk: int = 2, name: str = "report.pdf") -> list[str]:
    """Add pages of one document and return their ids; their pictures have fewer pixels than their boxes count."""
    made: list[str] = page.evaluate(
        _SHOW,
        {
            "pages": [each.as_json(index) for index, each in enumerate(pages)],
            "width": WIDTH,
            "height": HEIGHT,
            "shrunk": shrunk,
            "name": name,
        },
    )
    return made
