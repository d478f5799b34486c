import re

import pytest
from prometheus_client import CollectorRegistry, Counter

from ocr_operator.decide.preemption import Outcome
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


COUNTED = re.findall(
    r"^\| `(ocr_operator_\w+_total)` \| counter \| `(\w+)`: ([^|]+) \|",
    DOCS.read_text(encoding="utf-8"),
    re.MULTILINE,
)
"""Counter, its label, and the values that the page has of it."""


def values(registry: CollectorRegistry, counter: str, label: str) -> set[str]:
    samples = [each for family in registry.collect() for each in family.samples if each.name == counter]
    return {each.labels[label] for each in samples}


@pytest.mark.parametrize(("counter", "label", "words"), COUNTED, ids=lambda text: text.partition(",")[0])
def test_what_a_counter_tells_apart_is_there_from_the_start(counter: str, label: str, words: str) -> None:
    """Of a series that begins with its first event Prometheus sees no increase."""
    registry = CollectorRegistry()
    Metrics(registry)
    assert values(registry, counter, label) == {each.strip() for each in words.split(",")}


def test_all_counters_with_a_label_say_what_it_tells_apart() -> None:
    """But those whose values are modules and kinds: `watch_losses` has them from the watches, `faults` from the log."""
    labelled = {
        f"{family.name}_total"
        for each in vars(Metrics(CollectorRegistry())).values()
        if isinstance(each, Counter) and each._labelnames
        for family in each.describe()
    }
    assert labelled - {"ocr_operator_watch_losses_total", "ocr_operator_faults_total"} == {
        counter for counter, _, _ in COUNTED
    }


def test_nothing_is_counted_that_was_not_there_from_the_start() -> None:
    registry = CollectorRegistry()
    kept = vars(Metrics(registry))
    source = "".join(path.read_text() for path in (paths.ROOT / "operator").rglob("*.py"))
    counted = [
        (kept[name], word)
        for name, said in re.findall(r"metrics\.(\w+)\.labels\((.*)\)\.inc", source)
        for word in re.findall(r'"(\w+)"', said)
    ]
    assert len(counted) > 15
    for counter, word in counted:
        [family] = list(counter.describe())
        assert word in values(registry, f"{family.name}_total", counter._labelnames[0])
    assert values(registry, "ocr_operator_arbitration_asks_total", "result") == set(Outcome)


def test_every_metric_is_counted_somewhere() -> None:
    source = "".join(path.read_text() for path in (paths.ROOT / "operator").rglob("*.py"))
    kept = vars(Metrics(CollectorRegistry())).keys() - {"registry"}
    assert [name for name in kept if not re.search(rf"metrics\.{name}\b", source)] == []


def test_two_operators_in_one_process_do_not_share_numbers() -> None:
    one, other = Metrics(CollectorRegistry()), Metrics(CollectorRegistry())

    one.gpus.set(3)

    assert other.registry.get_sample_value("ocr_operator_gpus") == 0
