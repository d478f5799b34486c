"""The server's Prometheus metrics, on a registry of their own; `docs/metrics-server.md` describes each.

Events are counted where they happen (requests); conditions are read at each scrape from the state document, so gauges
can't lag behind or outlive what they describe.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ocr_wire import accept as wire_accept
from ocr_wire.state import Model, PodState
from ocr_wire.states import LOCATIONS, STATES, Worker

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 120, 300)
"""Buckets from a health check to a cold start from a slow disk."""


_BOUNDED: Final = "bounded"
"""Step of a page whose longer side was bounded before it was read."""


@dataclass(frozen=True)
class Uploads:
    """Memory of pages that are sent, wait or are read."""

    limit_bytes: int
    admitted_bytes: int
    waiting: int
    refused: int
    """Since the start."""


class _Conditions(Collector):
    """Gauges and counters of the state at the time of a scrape."""

    def __init__(
        self,
        observe: Callable[[], PodState],
        watchers: Callable[[], int],
        uploads: Callable[[], Uploads],
        ages: Callable[[], Mapping[str, tuple[float, float]]],
    ) -> None:
        self._observe = observe
        self._watchers = watchers
        self._uploads = uploads
        self._ages = ages

    def collect(self) -> Iterable[Metric]:
        now = self._observe()
        device, settings = now.device, now.settings
        yield _single("ocr_device_memory_total_bytes", "Memory of the device.", device.memory_total_bytes)
        yield _single(
            "ocr_device_memory_used_bytes", "Device memory that our models hold.", device.memory_used_bytes
        )
        yield _single("ocr_queue_limit", "Waiting requests that are allowed.", now.queue.limit)
        yield _single("ocr_settings_generation", "Generation of the live settings.", settings.generation)
        yield _single("ocr_settings_revision", "Revision of the live settings.", settings.revision)
        yield _single("ocr_draining", "1 while the server shuts down.", int(now.draining))
        yield _single("ocr_state_watchers", "Clients that watch the state.", self._watchers())
        uploads = self._uploads()
        yield _single("ocr_uploads_limit_bytes", "Bytes that pages may take.", uploads.limit_bytes)
        yield _single(
            "ocr_uploads_admitted_bytes",
            "Bytes that pages take, until they are answered.",
            uploads.admitted_bytes,
        )
        yield _single(
            "ocr_uploads_waiting", "Pages that aren't read until others are answered.", uploads.waiting
        )
        refused = CounterMetricFamily("ocr_uploads_refused", "Pages that waited in vain to be read.")
        refused.add_metric([], uploads.refused)
        yield refused
        info = GaugeMetricFamily("ocr_device_info", "The device, by kind.", labels=["kind"])
        info.add_metric([device.kind], 1)
        yield info
        yield from _of_models(now.models)
        yield from _of_ages(self._ages())


def _of_models(models: tuple[Model, ...]) -> Iterable[Metric]:
    for name, text, read in _MODEL_GAUGES:
        gauge = GaugeMetricFamily(name, text, labels=["model"])
        for model in models:
            if (value := read(model)) is not None:
                gauge.add_metric([model.name], value)
        yield gauge
    for name, text, count in _MODEL_COUNTERS:
        counter = CounterMetricFamily(name, text, labels=["model"])
        for model in models:
            counter.add_metric([model.name], count(model))
        yield counter
    state = GaugeMetricFamily("ocr_model_state", "1 for the state a model is in.", labels=["model", "state"])
    located = GaugeMetricFamily(
        "ocr_model_location", "1 for where a model's weights are.", labels=["model", "location"]
    )
    for model in models:
        for each in STATES:
            state.add_metric([model.name, each], int(each is model.state))
        for place in LOCATIONS:
            located.add_metric([model.name, place], int(place is model.location))
    yield state
    yield located


def _of_ages(ages: Mapping[str, tuple[float, float]]) -> Iterable[Metric]:
    oldest = GaugeMetricFamily(
        "ocr_model_oldest_lease_seconds", "Age of the oldest lease, 0 without one.", labels=["model"]
    )
    stuck = GaugeMetricFamily(
        "ocr_model_stuck_seconds",
        "Time since the worker was killed, if it doesn't end, else 0.",
        labels=["model"],
    )
    for model, (lease, killed) in ages.items():
        oldest.add_metric([model], lease)
        stuck.add_metric([model], killed)
    yield oldest
    yield stuck


def _lack_bytes(model: Model) -> int:
    lack = model.waits_for
    return 0 if lack is None else max(0, lack.needed_bytes - lack.free_bytes)


_MODEL_GAUGES: tuple[tuple[str, str, Callable[[Model], float | None]], ...] = (
    ("ocr_model_in_flight", "Requests that hold a lease.", lambda model: model.in_flight),
    ("ocr_model_waiting", "Requests that wait for a lease.", lambda model: model.waiting),
    ("ocr_model_memory_bytes", "Device memory of a model.", lambda model: model.memory_bytes),
    ("ocr_model_host_bytes", "Host memory of a model.", lambda model: model.host_bytes),
    (
        "ocr_model_shared_bytes",
        "Part of a model's host memory that is a file which other servers of the node map, too.",
        lambda model: model.shared_bytes,
    ),
    (
        "ocr_model_packed_bytes",
        "Second copies of a model's weights that a CPU computes with, beside its host memory.",
        lambda model: model.packed_bytes,
    ),
    (
        "ocr_model_lack_bytes",
        "Memory that a model waits for because other processes hold it.",
        _lack_bytes,
    ),
    (
        "ocr_model_worker_running",
        "1 while a worker process runs.",
        lambda model: int(model.worker is Worker.RUNNING),
    ),
    (
        "ocr_model_load_done_bytes",
        "Bytes that the load in flight has downloaded, read or converted.",
        lambda model: None if model.progress is None else model.progress.bytes_done,
    ),
    (
        "ocr_model_load_total_bytes",
        "Bytes that it has to, 0 where that isn't known.",
        lambda model: None if model.progress is None else model.progress.bytes_total,
    ),
)
"""Name, help and value of each model; None leaves a model out, such as one that isn't being loaded."""

_MODEL_COUNTERS: tuple[tuple[str, str, Callable[[Model], int]], ...] = (
    ("ocr_model_loads", "Times a model was loaded from disk.", lambda model: model.loads),
    ("ocr_model_wakes", "Times a model was restored from host memory.", lambda model: model.wakes),
)
"""Name without `_total`, help and value of each model."""


def _single(name: str, text: str, value: float | None) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value or 0)


class _Registry(CollectorRegistry):
    """Registry without the series that say when a counter began: Prometheus keeps as many of them as of the counters,
    and no alert or panel has one."""

    def collect(self) -> Iterable[Metric]:
        for family in super().collect():
            if family.type in ("counter", "histogram"):
                family.samples = [each for each in family.samples if not each.name.endswith("_created")]
            yield family


class Metrics:
    """Metrics of one server."""

    def __init__(
        self,
        version: str,
        observe: Callable[[], PodState],
        watchers: Callable[[], int],
        uploads: Callable[[], Uploads],
        ages: Callable[[], Mapping[str, tuple[float, float]]] = dict,
        *,
        tasks: Mapping[str, Iterable[str]] = MappingProxyType({}),
        steps: Iterable[str] = (),
    ) -> None:
        """Register all metrics. `tasks` are those that each model can do, and `steps` what is tried for a page that
        memory is short for: their series are there from the start, for what begins with the first event that it counts
        shows Prometheus no increase. `observe`, `watchers`, `uploads` and `ages` (seconds of the oldest lease, and
        since a kill that didn't help, by model) are called at each scrape."""
        self.registry = _Registry()
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
        self.connections = Gauge(
            "ocr_connections", "Connections, by what they do.", ["phase"], registry=self.registry
        )
        self.connections_limit = Gauge(
            "ocr_connections_limit", "Requests that are served at the same time.", registry=self.registry
        )
        self.connections_ended = Counter(
            "ocr_connections_ended",
            "Connections that the server ended because they didn't get on.",
            ["reason"],
            registry=self.registry,
        )
        self.pages = Counter("ocr_pages", "Pages read.", ["model", "task"], registry=self.registry)
        self.jobs = Gauge("ocr_jobs", "Jobs that haven't ended, by state.", ["state"], registry=self.registry)
        self.jobs_ended = Counter(
            "ocr_jobs_ended", "Jobs that ended, by how.", ["state"], registry=self.registry
        )
        self.job_pages = Counter(
            "ocr_job_pages", "Pages of jobs that ended, by outcome.", ["outcome"], registry=self.registry
        )
        self.kept_bytes = Gauge(
            "ocr_kept_bytes",
            "Memory of what is kept between requests, by what it is.",
            ["of"],
            registry=self.registry,
        )
        self.shortages = Counter(
            "ocr_page_shortages",
            "Pages read otherwise than requested, or after others, for lack of memory.",
            ["model", "step"],
            registry=self.registry,
        )
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
        self.image_failures = Counter(
            "ocr_model_image_failures",
            "Loads that couldn't keep the weights that they converted, or share them.",
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
        self.registry.register(_Conditions(observe, watchers, uploads, ages))
        counted = (
            self.offloads,
            self.worker_deaths,
            self.image_failures,
            self.prompt_tokens,
            self.completion_tokens,
        )
        timed = (self.wait_seconds, self.engine_seconds, self.wake_seconds, self.first_piece_seconds)
        for model, theirs in tasks.items():
            for each in (*counted, *timed):
                each.labels(model)
            for task in theirs:
                self.pages.labels(model, task)
            for step in (_BOUNDED, *steps):
                self.shortages.labels(model, step)

    def count_page(self, model: str, task: str, engine_seconds: float | None) -> None:
        """Count a page; `engine_seconds` is None for an answer that ended before its engine's work did."""
        self.pages.labels(model, task).inc()
        if engine_seconds is not None:
            self.engine_seconds.labels(model).observe(engine_seconds)

    def count_shortage(self, model: str, step: str | None) -> None:
        """Count a page that memory was short for; without a step, its longer side was bounded before it was read."""
        self.shortages.labels(model, step or _BOUNDED).inc()

    def count_tokens(self, model: str, prompt: int, completion: int) -> None:
        self.prompt_tokens.labels(model).inc(prompt)
        self.completion_tokens.labels(model).inc(completion)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics in the format that a header `Accept` prefers, and its media type."""
        encode, media_type = choose_encoder(wire_accept.metrics(accept))
        return encode(self.registry), media_type
