"""Checkpoints that are broken or hostile, in a real server: each says which file and field, the server lives."""

import json
import os
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ocr_inference.checkpoints.sources import selection
from tests.support import inference, pages

pytest.importorskip("transformers")

from tests.support import chatmodels, checkpoints

WEIGHTS = "model.safetensors"
Change = Callable[[Path], None]


def header_of(file: Path) -> tuple[dict[str, Any], bytes]:
    data = file.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def with_header(change: Callable[[dict[str, Any]], None]) -> Change:
    """The same bytes under a header that `change` was let at."""

    def apply(folder: Path) -> None:
        header, data = header_of(folder / WEIGHTS)
        change(header)
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text + data)

    return apply


def first(header: dict[str, Any], dimensions: int = 2) -> str:
    """A tensor of so many dimensions that differ."""
    return next(
        name
        for name, info in sorted(header.items())
        if name != "__metadata__"
        and len(info["shape"]) == dimensions
        and len(set(info["shape"])) == dimensions
    )


def renamed(header: dict[str, Any]) -> None:
    header["stranger.weight"] = header.pop(first(header))


def misshapen(header: dict[str, Any]) -> None:
    header[first(header)]["shape"].reverse()


def overlapping(header: dict[str, Any]) -> None:
    by_place = sorted((info["data_offsets"], name) for name, info in header.items() if name != "__metadata__")
    (begin, _), _ = by_place[0]
    (_, end), second = by_place[1]
    size = end - header[second]["data_offsets"][0]
    header[second]["data_offsets"] = [begin, begin + size]


def truncated(folder: Path) -> None:
    os.truncate(folder / WEIGHTS, (folder / WEIGHTS).stat().st_size - 1000)


def extra(folder: Path) -> None:
    def added(header: dict[str, Any]) -> None:
        end = max(info["data_offsets"][1] for name, info in header.items() if name != "__metadata__")
        header["stranger.weight"] = {"dtype": "F32", "shape": [1], "data_offsets": [end, end + 4]}

    with_header(added)(folder)
    with open(folder / WEIGHTS, "ab") as file:
        file.write(b"\0" * 4)


def bomb(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", 1 << 62) + b"{}" + b" " * 100)


def deep(folder: Path) -> None:
    text = b'{"a":' * 200_000
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text)


def outside(folder: Path) -> None:
    index = {"weight_map": {"a": "../good/model.safetensors"}}
    (folder / WEIGHTS).unlink()
    (folder / selection.INDEX).write_text(json.dumps(index))


def pickled(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")


def configured(**changes: object) -> Change:
    return lambda folder: checkpoints.edit_json(folder / "config.json", **changes)


def another_tokenizer(folder: Path) -> None:
    checkpoints.tokenizer({0: "<s>"}, 4096).save(str(folder / "tokenizer.json"))


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "Evil"}}')


def language(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["language_config"]["hidden_size"] = "many"
    checkpoints.write_json(folder / "config.json", config)


@dataclass(frozen=True)
class Case:
    change: Change
    words: tuple[str, ...]
    reason: str = "InvalidCheckpoint"


PLAIN = {
    "truncated": Case(truncated, (WEIGHTS,)),
    "bomb": Case(bomb, (WEIGHTS,)),
    "overlapping": Case(with_header(overlapping), (WEIGHTS,)),
    "missing": Case(with_header(renamed), (WEIGHTS, "is missing")),
    "misshapen": Case(with_header(misshapen), (WEIGHTS,)),
    "unknown-type": Case(configured(model_type="evil_vl"), ("config.json", "model_type", "evil_vl")),
    "another-tokenizer": Case(another_tokenizer, ("tokenizer.json",)),
}
CONVERTED = {
    "outside": Case(outside, (selection.INDEX, "weight_map")),
    "pickled": Case(pickled, ("pytorch_model.bin", "can run code")),
    "extra": Case(extra, (WEIGHTS, "stranger.weight")),
    "deep": Case(deep, (WEIGHTS,)),
    "misshapen": Case(with_header(misshapen), ()),
    "language": Case(language, ("config.json", "hidden_size")),
    "no-tokenizer": Case(no_tokenizer, ("tokenizer.json",)),
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bases")
    return {
        "plain": chatmodels.make(folder / "plain", "glm_ocr"),
        "converted": checkpoints.make_deepseek_ocr(folder / "converted"),
    }


@pytest.mark.parametrize(
    ("base", "cases"), [("plain", PLAIN), ("converted", CONVERTED)], ids=["plain", "converted"]
)
async def test_each_says_what_is_wrong_and_the_good_one_beside_them_works(
    bases: dict[str, Path], base: str, cases: dict[str, Case], tmp_path: Path
) -> None:
    models = []
    for name in ("good", *cases):
        shutil.copytree(bases[base], tmp_path / name)
        if name in cases:
            cases[name].change(tmp_path / name)
        models.append({"name": name, "engine": "transformers", "source": {"path": str(tmp_path / name)}})
    async with inference.server(json.dumps({"models": models}), cache_dir=tmp_path / "cache") as server:
        # First, since it keeps the libraries in memory from which the workers of the others are forked.
        status, body = await server.read(pages.blank(), model="good", max_tokens="2")
        assert status == 200, body
        for name, case in cases.items():
            status, refused = await server.read(pages.blank(), model=name)
            assert (status, refused["code"]) == (503, "load_failed"), (name, refused)
            failure = (await server.model(name))["last_failure"]
            assert failure["reason"] == case.reason, (name, failure)
            for word in case.words:
                assert word in failure["message"], (name, failure)
            assert failure["message"] in refused["error"]
            await server.until(name, state="unloaded", host_bytes=0, worker="exited")
        status, again = await server.read(pages.blank(), model="good", max_tokens="2")
        assert (status, again["raw_text"]) == (200, body["raw_text"])
