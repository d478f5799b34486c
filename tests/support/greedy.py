"""The greedy answer of a checkpoint by transformers' own `generate`, one page at a time: what every other way of
writing has to equal. `python -m tests.support.greedy` records the golden answers anew.
"""

import io
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedModel

from ocr_inference.engines.transformers import checkpoints as opening
from ocr_inference.engines.transformers.checkpoints import Opened
from ocr_inference.engines.transformers.inputs import Inputs
from ocr_inference.protocol.engine import InferRequest
from tests.support import chatmodels, checkpoints, paths

GOLDEN = paths.GOLDEN / "vlm" / "greedy.json"
SEEDS: Mapping[str, int] = {"deepseek_ocr": 2}
"""With which no choice of a token is close."""
CLEAR = 3e-4
"""The least distance between the best and the second best token; other machines' arithmetic differs by 1e-5."""
CASES: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "deepseek_ocr": [
        {"resolution": "tiny", "max_tokens": 160},  # more than the window that its native kin has
        *({"resolution": name, "max_tokens": 24} for name in ("small", "base", "large", "gundam")),
    ],
    "deepseek_ocr2": [{"resolution": name, "max_tokens": 24} for name in ("small", "base", "gundam")],
    **{kind: [{"max_tokens": 24}] for kind in chatmodels.KINDS},
}


def page(width: int = 900, height: int = 1300) -> bytes:
    """A picture of shapes, the same on every machine: no fonts."""
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    for index in range(40):
        left, top = index * 97 % width, index * 131 % height
        colour = (index * 37 % 256, index * 59 % 256, index * 83 % 256)
        draw.rectangle((left, top, left + 60 + index * 3, top + 25 + index), fill=colour)
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


class _Banned(LogitsProcessor):
    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        assert self._inputs.banned
        for row, ids in enumerate(input_ids.tolist()):
            for token in self._inputs.banned(ids[self._inputs.prompt_tokens :]):
                scores[row, token] = -torch.inf
        return scores


def write(model: PreTrainedModel, inputs: Inputs, opened: Opened) -> list[int]:
    """The tokens of the answer, the one that ends it included."""
    processors = LogitsProcessorList([_Banned(inputs)] if inputs.banned else [])
    out = model.generate(  # type: ignore[operator]
        **inputs.tensors,
        max_new_tokens=inputs.max_new_tokens,
        do_sample=False,
        eos_token_id=sorted(opened.eos_ids),
        pad_token_id=min(opened.eos_ids),
        logits_processor=processors,
    )
    ids: list[int] = out[0, inputs.prompt_tokens :].tolist()
    return ids


def make(folder: Path, kind: str) -> Path:
    """The checkpoint that the golden answers are of."""
    seed = SEEDS.get(kind, 0)
    match kind:
        case "deepseek_ocr":
            return checkpoints.make_deepseek_ocr(folder, seed=seed)
        case "deepseek_ocr2":
            return checkpoints.make_deepseek_ocr2(folder, seed=seed)
    return chatmodels.make(folder, kind, seed=seed)


def made_once(base: Path) -> Callable[[str], Path]:
    """Return a function that makes the checkpoint of a kind in its own folder of `base`, where it isn't made yet."""

    def get(kind: str) -> Path:
        if not (base / kind).exists():
            (base / kind).mkdir()
            make(base / kind, kind)
        return base / kind

    return get


def request(case: Mapping[str, Any]) -> InferRequest:
    return InferRequest(image=page(), task="document", **case)


def answers(folder: Path, kind: str) -> list[list[int]]:
    opened = opening.open(folder)
    model = opened.converted()
    return [write(model, opened.prepare(request(case)), opened) for case in CASES[kind]]


def closest(folder: Path, kind: str) -> float:
    """How clear the closest choice of any of its answers is."""
    opened = opening.open(folder)
    model = opened.converted()
    found = torch.inf
    for case in CASES[kind]:
        inputs = opened.prepare(request(case))
        ids = [*inputs.tensors["input_ids"][0].tolist(), *write(model, inputs, opened)]
        with torch.no_grad():
            tensors = {**inputs.tensors, "input_ids": torch.tensor([ids])}
            if "mm_token_type_ids" in tensors:
                kinds = tensors["mm_token_type_ids"]
                text = torch.zeros(1, len(ids) - kinds.shape[1], dtype=kinds.dtype)
                tensors["mm_token_type_ids"] = torch.cat([kinds, text], dim=1)
            logits = model(**tensors).logits[0, inputs.prompt_tokens - 1 : -1]
        best = logits.topk(2).values
        found = min(found, float((best[:, 0] - best[:, 1]).min()))
    return found


def record() -> dict[str, list[list[int]]]:
    recorded = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in CASES:
            made = make(Path(folder) / kind, kind)
            if (distance := closest(made, kind)) < CLEAR:
                raise SystemExit(f"{kind}: a choice is too close ({distance:.1e}): take another seed")
            recorded[kind] = answers(made, kind)
    return recorded


if __name__ == "__main__":
    recorded = record()
    lines = (f'  "{kind}": {json.dumps(ids)}' for kind, ids in recorded.items())
    GOLDEN.parent.mkdir(parents=True, exist_ok=True)
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    sys.stdout.write(f"{GOLDEN}\n")
