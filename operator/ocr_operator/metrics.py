"""What the operator counts about itself. docs/metrics.md explains each; a test fails when one is missing there.

No label has values from outside but those of `ResourceSeries`, whose number is bounded: no messages, no names of pods.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class ConditionCounts(Collector):
    """Counts of resources by condition and status, made at a scrape by one look at all of them."""

    NAME: Final = "ocr_operator_conditions"

    def __init__(self) -> None:
        self.read: Callable[[], Mapping[tuple[str, str], int]] = dict
        """Returns the numbers, by condition and status."""

    def collect(self) -> Iterable[GaugeMetricFamily]:
        family = GaugeMetricFamily(self.NAME, "Resources, by condition.", labels=["condition", "status"])
        for labels, count in self.read().items():
            family.add_metric(labels, count)
        yield family


Sample = tuple[str, tuple[str, ...], float]
"""A family of `ResourceSeries`, the values of its labels after the first two, and the value."""


class ResourceSeries(Collector):
    """Series with the names of resources, made at a scrape: those of a resource that is gone are gone, too.

    The labels aren't called `namespace` and `name`: Prometheus has a `namespace` of its own, that of the operator's
    pod.
    """

    PREFIX: Final = "ocr_operator_resource_"
    NAMES: Final = ("resource_namespace", "resource")
    FAMILIES: Final = {
        "condition": ("1 for the status that the condition has.", ("condition", "status")),
        "replicas": ("Pods, wanted and there.", ("state",)),
        "models": ("Models in all pods, by where their weights are.", ("location",)),
        "gpu_memory_bytes": ("GPU memory of all pods.", ("kind",)),
        "settings_revision": ("Revision of the live settings.", ()),
    }

    def __init__(self) -> None:
        self.read: Callable[[], Iterable[tuple[str, str, Iterable[Sample]]]] = tuple
        """Returns namespace and name of each resource that has series, with them."""
        self.omitted: Callable[[], int] = int
        """Returns how many resources have none, since there are too many."""

    def collect(self) -> Iterable[GaugeMetricFamily]:
        found = {
            family: GaugeMetricFamily(f"{self.PREFIX}{family}", help_, labels=[*self.NAMES, *labels])
            for family, (help_, labels) in self.FAMILIES.items()
        }
        for namespace, name, samples in self.read():
            for family, labels, value in samples:
                found[family].add_metric((namespace, name, *labels), value)
        yield from found.values()
        left_out = GaugeMetricFamily(f"{self.PREFIX}series_omitted", "Resources without series of their own.")
        left_out.add_metric((), self.omitted())
        yield left_out


def _counter(registry: CollectorRegistry, name: str, text: str, **label: Iterable[str]) -> Counter:
    """Return a counter with one label, whose series are there from the start: of one that begins with the first event
    that it counts, Prometheus sees no increase."""
    [(key, values)] = label.items()
    counter = Counter(name, text, [key], registry=registry)
    for each in values:
        counter.labels(each)
    return counter


class Metrics:
    """All metrics, in the registry that is passed in: two operators in one process don't share numbers."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        counter = partial(_counter, registry)
        self.resources = Gauge("ocr_operator_resources", "Known OcrDeployments.", registry=registry)
        self.conditions = ConditionCounts()
        registry.register(self.conditions)
        self.resource_series = ResourceSeries()
        registry.register(self.resource_series)
        self.policies = Gauge("ocr_operator_policies", "Known OcrIdlePolicies.", registry=registry)
        self.reconciles = counter(
            "ocr_operator_reconciles",
            "Passes over one resource or policy.",
            result=("done", "conflict", "failed"),
        )
        self.reconcile_seconds = Histogram(
            "ocr_operator_reconcile_seconds", "Time of one pass.", buckets=FAST, registry=registry
        )
        self.queue = Gauge(
            "ocr_operator_queue_length", "Resources that wait to be looked at now.", registry=registry
        )
        self.children = counter(
            "ocr_operator_child_writes", "Children written or deleted.", verb=("apply", "delete")
        )
        self.status_writes = counter(
            "ocr_operator_status_writes", "Writes of a status.", result=("written", "failed")
        )
        self.placements = counter(
            "ocr_operator_placements", "Decisions about gated pods.", result=("placed", "nofit")
        )
        self.awake = Gauge(
            "ocr_operator_awake_pods", "Pods that Services send requests to.", registry=registry
        )
        self.awake_labels = counter(
            "ocr_operator_awake_changes", "Pods that joined or left an awake set.", change=("joined", "left")
        )
        self.pushes = counter(
            "ocr_operator_pushes", "Live settings sent to a pod.", result=("applied", "failed")
        )
        self.push_seconds = Histogram(
            "ocr_operator_push_seconds", "Time of one push.", buckets=FAST, registry=registry
        )
        self.streams = Gauge(
            "ocr_operator_pod_streams", "State streams of pods.", ["state"], registry=registry
        )
        self.scrapes = counter(
            "ocr_operator_scrapes", "Scrapes of DCGM exporters.", result=("read", "failed")
        )
        self.prometheus = counter(
            "ocr_operator_prometheus_queries", "Questions to Prometheus.", result=("read", "failed")
        )
        self.gpus = Gauge("ocr_operator_gpus", "GPUs known from exporters.", registry=registry)
        self.watch_losses = Counter(
            "ocr_operator_watch_losses",
            "Watches that broke and were tried again.",
            ["kind"],
            registry=registry,
        )
        self.preemption_asks = counter(
            "ocr_operator_arbitration_asks",
            "Idle models asked to make way.",
            result=("offloaded", "busy", "failed"),
        )
        self.preemption_seconds = Histogram(
            "ocr_operator_arbitration_seconds",
            "Time from a model's waiting for memory of others until it is ready.",
            buckets=FAST,
            registry=registry,
        )
        self.preemption_waiting = Gauge(
            "ocr_operator_arbitration_waiting",
            "Models that wait for memory of others.",
            registry=registry,
        )
        self.namespaces = Gauge(
            "ocr_operator_namespaces",
            "Namespaces, by whose they are.",
            ["state"],
            registry=registry,
        )
        self.wave = Gauge(
            "ocr_operator_wave_resources",
            "Resources whose pods are to be replaced because the operator's version or settings changed.",
            ["state"],
            registry=registry,
        )
        self.leading = Gauge(
            "ocr_operator_leading", "1 in the replica that works, 0 in one that stands by.", registry=registry
        )
        self.faults = Counter(
            "ocr_operator_faults", "Lines of the log with a traceback.", ["module"], registry=registry
        )
        self.events = counter(
            "ocr_operator_events", "Kubernetes Events.", result=("written", "failed", "dropped")
        )
