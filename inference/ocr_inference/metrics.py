"""The server's Prometheus metrics, on a registry of their own; `docs/metrics-server.md` describes each.

What happens is counted where it happens (requests); what is, is read when somebody scrapes (`Observed`), so
gauges can't lag behind or outlive what they describe.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 120, 300)
"""From a health check to a cold start from a slow disk."""


@dataclass(frozen=True)
class ObservedModel:
    """One model, now."""

    name: str
    state: str
    location: str
    in_flight: int
    waiting: int
    memory_bytes: int
    host_bytes: int
    worker_running: bool
    lack_bytes: int = 0
    """What it waits for because others hold it."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Totals since start by event: loads, wakes."""
    load_bytes: tuple[int, int] | None = None
    """Done and in all (0 where unknown) of the load in flight; None where there is none that tells."""


@dataclass(frozen=True)
class Observed:
    """The server, now."""

    device_kind: str
    memory_total_bytes: int
    memory_used_bytes: int
    queue_limit: int
    settings_generation: int
    settings_revision: int
    draining: bool
    watchers: int
    models: tuple[ObservedModel, ...]


class _Now(Collector):
    def __init__(
        self, observe: Callable[[], Observed], states: tuple[str, ...], locations: tuple[str, ...]
    ) -> None:
        self._observe = observe
        self._states = states
        self._locations = locations

    def collect(self) -> Iterable[Metric]:
        now = self._observe()
        yield _single("ocr_device_memory_total_bytes", "Memory of the device.", now.memory_total_bytes)
        yield _single(
            "ocr_device_memory_used_bytes", "Device memory that our models hold.", now.memory_used_bytes
        )
        yield _single("ocr_queue_limit", "Waiting requests that are allowed.", now.queue_limit)
        yield _single("ocr_settings_generation", "Generation of the live settings.", now.settings_generation)
        yield _single("ocr_settings_revision", "Revision of the live settings.", now.settings_revision)
        yield _single("ocr_draining", "1 while the server shuts down.", int(now.draining))
        yield _single("ocr_state_watchers", "Clients that watch the state.", now.watchers)
        device = GaugeMetricFamily("ocr_device_info", "The device, by kind.", labels=["kind"])
        device.add_metric([now.device_kind], 1)
        yield device
        yield from self._models(now.models)

    def _models(self, models: tuple[ObservedModel, ...]) -> Iterable[Metric]:
        for name, text, read in _MODEL_GAUGES:
            gauge = GaugeMetricFamily(name, text, labels=["model"])
            for model in models:
                gauge.add_metric([model.name], read(model))
            yield gauge
        for name, text, event in MODEL_COUNTERS:
            counter = CounterMetricFamily(name, text, labels=["model"])
            for model in models:
                if event in model.counts:
                    counter.add_metric([model.name], model.counts[event])
            yield counter
        for place, (name, text) in enumerate(_LOAD_GAUGES):
            gauge = GaugeMetricFamily(name, text, labels=["model"])
            for model in models:
                if model.load_bytes is not None:
                    gauge.add_metric([model.name], model.load_bytes[place])
            yield gauge
        state = GaugeMetricFamily(
            "ocr_model_state", "1 for the state a model is in.", labels=["model", "state"]
        )
        located = GaugeMetricFamily(
            "ocr_model_location", "1 for where a model's weights are.", labels=["model", "location"]
        )
        for model in models:
            for word in self._states:
                state.add_metric([model.name, word], int(word == model.state))
            for word in self._locations:
                located.add_metric([model.name, word], int(word == model.location))
        yield state
        yield located


_MODEL_GAUGES: tuple[tuple[str, str, Callable[[ObservedModel], float]], ...] = (
    ("ocr_model_in_flight", "Requests that hold a lease.", lambda model: model.in_flight),
    ("ocr_model_waiting", "Requests that wait for a lease.", lambda model: model.waiting),
    ("ocr_model_memory_bytes", "Device memory of a model.", lambda model: model.memory_bytes),
    ("ocr_model_host_bytes", "Host memory of a model.", lambda model: model.host_bytes),
    (
        "ocr_model_lack_bytes",
        "Memory that others hold and a model waits for.",
        lambda model: model.lack_bytes,
    ),
    ("ocr_model_worker_running", "1 while a worker process runs.", lambda model: int(model.worker_running)),
)

_LOAD_GAUGES = (
    ("ocr_model_load_done_bytes", "Bytes that the load in flight has downloaded, read or converted."),
    ("ocr_model_load_total_bytes", "Bytes that it has to, 0 where that isn't known."),
)
"""Absent while a model isn't being loaded."""

MODEL_COUNTERS = (
    ("ocr_model_loads", "Times a model was loaded from disk.", "loads"),
    ("ocr_model_wakes", "Times a model was restored from host memory.", "wakes"),
)
"""(name without `_total`, help, key in `ObservedModel.counts`)."""


def _single(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


class Metrics:
    """`observe` is asked at each scrape; states and locations are the words that their gauges have."""

    def __init__(
        self,
        version: str,
        observe: Callable[[], Observed],
        states: tuple[str, ...],
        locations: tuple[str, ...],
    ) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "ocr_http_requests", "Answered requests.", ["method", "route", "status"], registry=self.registry
        )
        self.request_seconds = Histogram(
            "ocr_http_request_seconds",
            "Time from a request's head to its answer's end.",
            ["method", "route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.pages = Counter("ocr_pages", "Pages read.", ["model", "task"], registry=self.registry)
        self.wait_seconds = Histogram(
            "ocr_wait_seconds",
            "Time that a request waited for its model, wakes included.",
            ["model"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.engine_seconds = Histogram(
            "ocr_engine_seconds",
            "Time of a page in the engine.",
            ["model"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.prompt_tokens = Counter(
            "ocr_prompt_tokens",
            "Tokens that language models saw, the pictures' included.",
            ["model"],
            registry=self.registry,
        )
        self.completion_tokens = Counter(
            "ocr_completion_tokens", "Tokens that language models wrote.", ["model"], registry=self.registry
        )
        self.first_piece_seconds = Histogram(
            "ocr_first_piece_seconds",
            "Time from a streamed request's body to the first piece of its answer.",
            ["model"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.offloads = Counter(
            "ocr_model_offloads", "Times a model went to host memory.", ["model"], registry=self.registry
        )
        self.worker_deaths = Counter(
            "ocr_model_worker_deaths",
            "Times a worker process died unasked.",
            ["model"],
            registry=self.registry,
        )
        self.wake_seconds = Histogram(
            "ocr_model_wake_seconds",
            "Time that a wake from host memory took.",
            ["model"],
            buckets=SECONDS,
            registry=self.registry,
        )
        Gauge("ocr_build_info", "1, with the version.", ["version"], registry=self.registry).labels(
            version
        ).set(1)
        self.registry.register(_Now(observe, states, locations))

    def count_page(self, model: str, task: str, engine_seconds: float | None) -> None:
        """`engine_seconds` is None for an answer that ended before its engine's work did."""
        self.pages.labels(model, task).inc()
        if engine_seconds is not None:
            self.engine_seconds.labels(model).observe(engine_seconds)

    def count_tokens(self, model: str, prompt: int, completion: int) -> None:
        self.prompt_tokens.labels(model).inc(prompt)
        self.completion_tokens.labels(model).inc(completion)

    def exposition(self) -> bytes:
        return generate_latest(self.registry)
