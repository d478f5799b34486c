import re

from prometheus_client import CollectorRegistry

from ocr_operator.metrics import Metrics
from tests.support import paths

DOCS = paths.DOCS / "metrics.md"


def names(registry: CollectorRegistry) -> list[str]:
    return [
        f"{family.name}_total" if family.type == "counter" else family.name for family in registry.collect()
    ]


def test_every_metric_is_documented() -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    text = DOCS.read_text(encoding="utf-8")

    assert names(registry)
    assert [name for name in names(registry) if f"| `{name}` |" not in text] == []


def test_every_documented_metric_exists() -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    documented = re.findall(r"^\| `(ocr_operator_\w+)` \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE)

    assert documented
    assert sorted(documented) == sorted(names(registry))


def test_every_metric_is_counted_somewhere() -> None:
    source = "".join(path.read_text() for path in (paths.ROOT / "operator").rglob("*.py"))
    kept = vars(Metrics(CollectorRegistry())).keys() - {"registry"}
    assert [name for name in kept if not re.search(rf"metrics\.{name}\b", source)] == []


def test_two_operators_in_one_process_do_not_share_numbers() -> None:
    one, other = Metrics(CollectorRegistry()), Metrics(CollectorRegistry())

    one.gpus.set(3)

    assert other.registry.get_sample_value("ocr_operator_gpus") == 0
