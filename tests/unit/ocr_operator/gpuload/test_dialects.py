"""Each dialect of docs/dialects.md has its stored sample, and is read as its row says."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from ocr_operator.gpuload import dcgm, exposition, prometheus_answers
from ocr_operator.gpuload.dcgm import GpuReading
from tests.support.paths import GOLDEN, ROOT

SAMPLES = GOLDEN / "dcgm"
NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
MIB = 2**20
DIALECTS: dict[str, Callable[[str], None]] = {}
ELSEWHERE = {"test_dcgm.py", "test_prometheus.py", "test_gpu_exporter.py"}


def dialect(check: Callable[[str], None]) -> Callable[[str], None]:
    """Register the check of the sample that has the function's name."""
    DIALECTS[check.__name__.replace("_", "-")] = check
    return check


def scraped(text: str) -> list[GpuReading]:
    return dcgm.parse(text, "gpu-a", NOW)


def asked(text: str, *nodes: str) -> prometheus_answers.Answer:
    """Answer as a Prometheus does that has the series of the sample; the last series of a GPU is the oldest."""
    series = list(exposition.samples(text, [*dcgm.NAMES, "up"]))

    def vector(found: list[tuple[dict[str, str], float]]) -> bytes:
        result = [{"metric": labels, "value": [NOW.timestamp(), str(value)]} for labels, value in found]
        return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode()

    load = [({"__name__": name, **labels}, value) for name, labels, value in series if name != "up"]
    times = [
        (dict(labels), NOW.timestamp() - number)
        for number, (name, labels, _) in enumerate(series)
        if name == dcgm.FB_USED
    ]
    targets = [({"__name__": name, **labels}, value) for name, labels, value in series if name == "up"]
    return prometheus_answers.read(vector(load), vector(times), vector(targets), nodes or ("gpu-a", "gpu-b"))


def holders(readings: tuple[GpuReading, ...] | list[GpuReading]) -> list[tuple[str, ...]]:
    return [each.holders for each in readings]


@dialect
def old_namespace(text: str) -> None:
    assert holders(scraped(text)) == [("research/train-0",), ()]


@dialect
def target_labels(text: str) -> None:
    held, idle = asked(text).readings
    assert (held.holders, held.memory_used_bytes) == (("research/train-0",), 20000 * MIB)
    assert (idle.holders, idle.memory_used_bytes) == ((), 3 * MIB), (
        "by the exporter that runs, not the one before"
    )
    two = "\n".join(
        line.replace('job="dcgm-exporter-dev"', 'job="another"') if "10.0.1.5" in line else line
        for line in text.splitlines()
    )
    assert asked(two).readings[1].holders == ("research/train-1",), "two exporters side by side"
    without_up = "\n".join(line for line in text.splitlines() if not line.startswith("up"))
    assert asked(without_up).readings[0].holders == ("research/train-0",)


@dialect
def honor_labels(text: str) -> None:
    assert holders(asked(text).readings) == [("research/train-0",), ()]


@dialect
def mig_beside_whole(text: str) -> None:
    assert [each.mig for each in scraped(text)] == ["3/1g.6gb", "4/1g.6gb"]


@dialect
def mig_without_memory(text: str) -> None:
    first, free, last = scraped(text)
    assert (first.mig, first.utilization, first.memory_total_bytes) == ("7/1g.10gb", 0.0, None)
    assert holders([first, free, last]) == [
        ("models/embedding-predictor-vdtjl",),
        (),
        ("models/tts-predictor-8j8pl",),
    ]


@dialect
def mig_media(text: str) -> None:
    assert [each.mig for each in scraped(text)] == ["7/1g.10gb+me", "8/1g.10gb"]


@dialect
def mig_other_size(text: str) -> None:
    assert [each.mig for each in scraped(text)] == ["7/1g.11gb", "8/1g.11gb"]


@dialect
def many_devices(text: str) -> None:
    (gpu,) = scraped(text)
    assert gpu.holders == ("default/gpu-burn-clvh5", "vllm-inference/vllm-f95nk")
    assert gpu.memory_used_bytes == 15866 * MIB


@dialect
def per_process(text: str) -> None:
    (gpu,) = scraped(text)
    assert gpu.memory_used_bytes == 20500 * MIB, "the GPU's own line, not the largest pod's"
    assert gpu.holders == ("team-a/worker-0", "team-b/worker-1")


@dialect
def amd(text: str) -> None:
    (gpu,) = scraped(text)
    assert (gpu.uuid, gpu.index) == ("AMD-17ff74b5-0000-1000-805c-37b0fbe69430", 0)
    assert (gpu.memory_used_bytes, gpu.memory_total_bytes) == (26 * MIB, 24560 * MIB)
    assert (gpu.utilization, gpu.holders) == (0.0, ())


@dialect
def full_host(text: str) -> None:
    assert [each.node for each in asked(text, "gpu-a", "gpu-b").readings] == ["gpu-a"]
    assert [each.node for each in asked(text, "gpu-a.mt").readings] == ["gpu-a.mt"]
    short = text.replace("gpu-a.mt", "gpu-a")
    assert [each.node for each in asked(short, "gpu-a.mt").readings] == ["gpu-a.mt"]
    assert asked(short, "gpu-a.mt", "gpu-a.eu").readings == (), "either may be meant"


@dialect
def clusters(text: str) -> None:
    answer = asked(text)
    assert [each.node for each in answer.readings] == ["gpu-b"], (
        "none of a node that may be another cluster's"
    )
    assert answer.doubtful == {"gpu-a"}


@dialect
def lower_case(text: str) -> None:
    (gpu,) = scraped(text)
    assert (gpu.mig, gpu.utilization) == ("1/4g.40gb", 0.06868)


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_dialect_is_read_as_its_row_says(name: str) -> None:
    DIALECTS[name]((SAMPLES / f"{name}.txt").read_text())


def test_every_row_has_its_sample_and_every_sample_its_row() -> None:
    page = (ROOT / "docs" / "dialects.md").read_text()
    rows = set(re.findall(r"\]\(\.\./tests/golden/dcgm/([a-z-]+)\.(?:txt|json)\)", page))
    assert rows == {each.stem for each in SAMPLES.iterdir()}
    read_elsewhere = "".join(
        each.read_text() for each in (ROOT / "tests").rglob("*.py") if each.name in ELSEWHERE
    )
    assert {
        name
        for name in rows - set(DIALECTS)
        if f'"{name}' not in read_elsewhere and f"{name}." not in read_elsewhere
    } == set()
