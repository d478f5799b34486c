"""How weights move: restore, offload, first load and host memory, each against doing the same by hand.

Ratios first: each is of pairs measured next to one another in this run, since seconds are the machine's. Whoever is
compared with pays for fresh pages as we do: a copy into memory that was touched before would be many times faster.
Where there is a CUDA device it's measured too, at the size of DeepSeek-OCR.
"""

import gc
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench import report
from ocr_inference.protocol.host_tier import HostTier

if TYPE_CHECKING:
    import torch
    import transformers

    from ocr_inference.checkpoints.weights.layout import Layout
    from ocr_inference.engines.transformers.torchweights import FlatModel

CPU_BYTES: Final = 1 << 30
GPU_BYTES: Final = 6_670_000_000
"""DeepSeek-OCR in bfloat16."""
WIDTH: Final = 4096
PAIRS: Final = 15
LIBRARY_PAIRS: Final = 5
THREADS: Final = 8
CHUNK: Final = 16 << 20
COPIES: Final = ("aten::copy_", "aten::_to_copy", "aten::clone")
"""How a profiler calls them; what goes over a link it calls `Memcpy …`."""


def at_least(what: str, value: float, unit: report.Unit, limit: float) -> report.Row:
    return report.Row(what, round(value, 4), unit, f"≥ {limit:g} {unit}", value >= limit)


@dataclass
class Subject:
    """A model of plain layers on `meta`, its file in the page cache, and where the file's bytes go."""

    file: Path
    layout: "Layout"

    def model(self) -> "torch.nn.Module":
        import torch  # noqa: PLC0415 - seconds of import that other measurements don't need

        with torch.device("meta"):
            return layers(self.layout.weight_bytes)


def layers(nbytes: int) -> "torch.nn.Module":
    import torch  # noqa: PLC0415

    each = WIDTH * WIDTH * 2 + WIDTH * 2
    count = max(1, nbytes // each)
    return torch.nn.Sequential(*(torch.nn.Linear(WIDTH, WIDTH, dtype=torch.bfloat16) for _ in range(count)))


def make_subject(folder: Path, nbytes: int) -> Subject:
    import torch  # noqa: PLC0415

    from ocr_inference.checkpoints.weights import image, layout  # noqa: PLC0415
    from ocr_inference.engines.transformers import torchweights  # noqa: PLC0415

    with torch.device("meta"):
        model = layers(nbytes)
    plan = layout.plan(*torchweights.entries(model))
    block = os.urandom(CHUNK)
    buffer = bytearray()
    while len(buffer) < plan.total_bytes:
        buffer += block
    file = folder / "model.safetensors"
    image.write(file, plan, memoryview(buffer))
    return Subject(file, plan)


@contextmanager
def loaded(subject: Subject, device: str) -> "Iterator[tuple[FlatModel, HostTier, float]]":
    """A model in its host tier and on its device, with the seconds that it took; everything is freed afterwards."""
    from ocr_inference.checkpoints.weights import reading  # noqa: PLC0415
    from ocr_inference.engines.transformers import devices, torchweights  # noqa: PLC0415

    model = subject.model()
    host = HostTier.create("bench")
    began = time.perf_counter()
    flat = torchweights.FlatModel(model, subject.layout, host, devices.device(device))  # type: ignore[arg-type]
    with reading.Checkpoint.open(subject.file.parent) as files:
        flat.load(
            lambda buffer, on_range: files.read(subject.layout, buffer, on_range=on_range, threads=THREADS)
        )
    seconds = time.perf_counter() - began
    try:
        yield flat, host, seconds
    finally:
        flat.close()
        host.resize(0)
        host.close()


def copies_of(call: Callable[[], object]) -> int:
    """Operations that move bytes of tensors, in any direction."""
    from torch.profiler import profile  # noqa: PLC0415

    with profile() as seen:
        call()
    copies = [each for each in seen.key_averages() if each.key in COPIES or each.key.startswith("Memcpy")]
    return sum(each.count for each in copies)


def timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


# --- what we are compared with --------------------------------------------------------------------------------


def read_into_fresh_memory(file: Path) -> float:
    """All of a file into a new file in memory, by as many threads in pieces as large as ours."""
    size = file.stat().st_size
    host = HostTier.create("baseline")
    source = os.open(file, os.O_RDONLY)
    began = time.perf_counter()
    host.resize(size)
    with host.map() as mapped, memoryview(mapped) as view, ThreadPoolExecutor(THREADS) as pool:

        def read(offset: int) -> int:
            with view[offset : offset + CHUNK] as part:
                return os.preadv(source, [part], offset)

        assert sum(pool.map(read, range(0, size, CHUNK))) == size
    seconds = time.perf_counter() - began
    os.close(source)
    host.resize(0)
    host.close()
    return seconds


def read_at_once(file: Path) -> float:
    """One `read` of a whole file, as `Path.read_bytes` does it."""
    began = time.perf_counter()
    data = file.read_bytes()
    seconds = time.perf_counter() - began
    del data
    return seconds


def allocate_and_copy(source: "torch.Tensor", device: str) -> float:
    import torch  # noqa: PLC0415

    began = time.perf_counter()
    target = torch.empty(source.nbytes, dtype=torch.uint8, device=device)
    target.copy_(source, non_blocking=True)
    if device == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    del target
    if device == "cuda":
        torch.cuda.empty_cache()
    return seconds


# --- the measurements -----------------------------------------------------------------------------------------


def first_load(subject: Subject, samples: dict[str, Sequence[float]]) -> list[report.Row]:
    read_into_fresh_memory(subject.file)  # the page cache has it from here on
    ours, theirs, at_once = [], [], []
    for _ in range(PAIRS):
        with loaded(subject, "cpu") as (_, _, seconds):
            ours.append(seconds)
        theirs.append(read_into_fresh_memory(subject.file))
        at_once.append(read_at_once(subject.file))
    samples |= {"first_load_seconds": ours, "read_seconds": theirs, "read_at_once_seconds": at_once}
    ratio = report.median([a / b for a, b in zip(ours, theirs, strict=True)])
    single = report.median([a / b for a, b in zip(ours, at_once, strict=True)])
    return [
        report.at_most("first load ÷ reading the file into fresh memory, same threads", ratio, "×", 1.15),
        report.plain("first load ÷ one read() of the file", single, "×"),
        report.plain("first load from the page cache", rate(subject, ours), "GB/s"),
    ]


def moves(subject: Subject, kind: str, samples: dict[str, Sequence[float]]) -> list[report.Row]:
    """Restore and offload, over and over."""
    import torch  # noqa: PLC0415

    place = "cuda" if kind == "cuda" else "cpu"
    rows = []
    with loaded(subject, kind) as (flat, _, seconds):
        samples[f"{kind}_first_load_seconds"] = [seconds]
        source = torch.empty(subject.layout.total_bytes, dtype=torch.uint8, pin_memory=kind == "cuda")
        source.fill_(1)
        if kind == "cuda":
            flat.drop_device()
            bounced = []
            for _ in range(3):
                bounced.append(timed(flat.to_device))
                flat.drop_device()
            samples["cuda_restore_unpinned_seconds"] = bounced
            rows.append(report.plain("cuda: restore before pinning", rate(subject, bounced), "GB/s"))
            pinning = timed(lambda: flat.pin(wait=True))
            rows.append(report.plain("cuda: pinning in the background", flat.pin() / pinning / 1e9, "GB/s"))
            flat.to_device()
        copied = copies_of(flat.drop_device)
        flat.to_device()
        restores, copies, offloads = [], [], []
        for _ in range(PAIRS):
            offloads.append(timed(flat.drop_device))
            assert flat.device_bytes == 0
            restores.append(timed(flat.to_device))
            copies.append(allocate_and_copy(source, place))
    samples |= {
        f"{kind}_restore_seconds": restores,
        f"{kind}_copy_seconds": copies,
        f"{kind}_offload_seconds": offloads,
    }
    share = report.median([b / a for a, b in zip(restores, copies, strict=True)])
    baseline = "pinned copy" if kind == "cuda" else "memcpy"
    p50 = report.percentile(offloads, 0.5) * 1000
    return [
        *rows,
        at_least(f"{kind}: restore, share of one allocate + {baseline}", share, "×", 0.9),
        report.plain(f"{kind}: restore", rate(subject, restores), "GB/s"),
        report.at_most(f"{kind}: copies that a profiler sees in an offload", copied, "", 0),
        report.at_most(f"{kind}: offload, p50", p50, "ms", 50)
        if kind == "cuda"
        else report.plain(f"{kind}: offload, p50", p50, "ms"),
    ]


def against_library(folder: Path, nbytes: int, kind: str, samples: dict[str, Sequence[float]]) -> report.Row:
    """The first load of a transformers model against the library's own, every page there in the end."""
    import torch  # noqa: PLC0415
    import transformers  # noqa: PLC0415

    place = "cuda" if kind == "cuda" else "cpu"
    config = transformers.LlamaConfig(
        hidden_size=2048,
        intermediate_size=8192,
        num_attention_heads=16,
        num_hidden_layers=max(1, nbytes // 134_000_000),
        vocab_size=4096,
        dtype="bfloat16",
    )
    with torch.device(place):
        model = build(config)
        model.save_pretrained(folder, max_shard_size="1000GB")
    del model
    if place == "cuda":
        torch.cuda.empty_cache()
    ours, theirs = [], []
    for _ in range(LIBRARY_PAIRS):
        ours.append(load_ours(folder, config, kind))
        theirs.append(timed(lambda: load_by_library(folder, place)))
        gc.collect()
        if place == "cuda":
            torch.cuda.empty_cache()
    samples |= {f"{kind}_load_seconds": ours, f"{kind}_from_pretrained_seconds": theirs}
    ratio = report.median([b / a for a, b in zip(ours, theirs, strict=True)])
    if place == "cuda":
        return at_least("cuda: from_pretrained to the device ÷ our first load", ratio, "×", 3)
    # It maps the page cache and copies nothing, so it wins here; its memory isn't a host tier, though.
    return report.plain("cpu: from_pretrained, all pages touched ÷ our first load", ratio, "×")


def build(config: "transformers.PretrainedConfig") -> "transformers.PreTrainedModel":
    import torch  # noqa: PLC0415
    import transformers  # noqa: PLC0415

    model: transformers.PreTrainedModel = transformers.AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
        config, dtype=torch.bfloat16
    )
    return model


def load_ours(folder: Path, config: "transformers.PretrainedConfig", kind: str) -> float:
    import torch  # noqa: PLC0415

    from ocr_inference.checkpoints.weights import layout, reading  # noqa: PLC0415
    from ocr_inference.engines.transformers import devices, torchweights  # noqa: PLC0415

    host = HostTier.create("bench")
    began = time.perf_counter()
    with torch.device("meta"):
        model = build(config)
    rotary = type(model.model.rotary_emb)(config)
    computed = {f"model.rotary_emb.{name}": each for name, each in rotary.named_buffers()}
    plan = layout.plan(*torchweights.entries(model))
    flat = torchweights.FlatModel(model, plan, host, devices.device(kind))  # type: ignore[arg-type]
    with reading.Checkpoint.open(folder) as files:
        flat.load(lambda buffer, on_range: files.read(plan, buffer, on_range=on_range), computed)
    seconds = time.perf_counter() - began
    flat.close()
    host.resize(0)
    host.close()
    return seconds


def load_by_library(folder: Path, place: str) -> None:
    import torch  # noqa: PLC0415
    import transformers  # noqa: PLC0415

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    torch.nn.Module.to(model, place)
    for tensor in model.parameters():  # on a CPU it maps the file, and has read nothing yet
        tensor.detach().view(-1)[:: 4096 // tensor.element_size()].sum()
    if place == "cuda":
        torch.cuda.synchronize()


def memory(subject: Subject) -> list[report.Row]:
    """What the host tier takes, and what comes back."""
    with loaded(subject, "simulated"):
        pass  # whatever libraries keep for good, they keep now
    gc.collect()
    before = resident_bytes()
    with loaded(subject, "simulated") as (_, host, _):
        taken = host.resident_bytes
    after = resident_bytes()
    weights = subject.layout.weight_bytes
    return [
        report.at_most("host tier ÷ weight bytes", taken / weights, "×", 1.02),
        report.at_most("|RSS after release ÷ RSS before − 1|", abs(after / before - 1) * 100, "%", 2),
    ]


def resident_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def rate(subject: Subject, seconds: list[float]) -> float:
    return subject.layout.weight_bytes / report.median(seconds) / 1e9


def surroundings() -> Mapping[str, str]:
    import torch  # noqa: PLC0415

    found = {
        "torch": torch.__version__,
        "transformers": version("transformers"),
        "threads": str(torch.get_num_threads()),
    }
    if torch.cuda.is_available():
        # An idle link is slow on purpose; this runs right after the copies.
        query = "--query-gpu=pcie.link.gen.current,pcie.link.width.current,driver_version"
        asked = subprocess.run(
            ["nvidia-smi", query, "--format=csv,noheader"], capture_output=True, text=True, check=False
        )
        found |= {"device": torch.cuda.get_device_name(), "cuda": str(torch.version.cuda)}
        found |= {"link generation, width and driver": asked.stdout.strip() or "unknown"}
    return found


async def measure() -> report.Result:
    import torch  # noqa: PLC0415

    # A GPU's time is for what only a GPU shows; `make bench` measures the rest anywhere.
    cuda = torch.cuda.is_available()
    kind, nbytes = ("cuda", GPU_BYTES) if cuda else ("cpu", CPU_BYTES)
    samples: dict[str, Sequence[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        subject = make_subject(Path(folder), nbytes)
        rows = moves(subject, "cuda" if cuda else "simulated", samples)
        if not cuda:
            rows = [*first_load(subject, samples), *rows, *memory(subject)]
    with tempfile.TemporaryDirectory() as folder:
        rows.append(against_library(Path(folder), nbytes if cuda else nbytes // 2, kind, samples))
    where = ", ".join(f"{name} {value}" for name, value in surroundings().items())
    method = (
        f"{PAIRS} pairs of ours and the comparison, one after the other, medians of the pairs' ratios; {nbytes}"
        f" bytes of bfloat16 layers, file in the page cache, {THREADS} reading threads, all memory fresh on both"
        f" sides; {where}"
    )
    return report.Result("weights", method, rows, samples, torch.cuda.get_device_name() if cuda else "none")
