"""Counts what happens to models, as the manager's snapshots tell it."""

from ocr_inference.manager.manager import Manager
from ocr_inference.manager.snapshot import Moments
from ocr_inference.metrics import Metrics
from ocr_wire.state import Model
from ocr_wire.states import State


async def count_changes(metrics: Metrics, manager: Manager) -> None:
    """Count until this is cancelled."""
    before = manager.snapshot()
    async for snapshot in manager.changes():
        for model in snapshot.models:
            then = before.model(model.name), before.moments[model.name]
            _count(metrics, then, (model, snapshot.moments[model.name]))
        before = snapshot


def _count(metrics: Metrics, before: tuple[Model, Moments], now: tuple[Model, Moments]) -> None:
    """Count what happened between two snapshots of a model."""
    (model_before, moments_before), (model, moments) = before, now
    if model.wakes > model_before.wakes and model.last_wake_seconds is not None:
        metrics.wake_seconds.labels(model.name).observe(model.last_wake_seconds)
    if model.state is State.OFFLOADED and moments.since != moments_before.since:
        metrics.offloads.labels(model.name).inc()
    failure = model.last_failure
    if failure is not None and moments.failed != moments_before.failed and failure.reason == "WorkerDied":
        metrics.worker_deaths.labels(model.name).inc()
    if moments.image_failed is not None and moments.image_failed != moments_before.image_failed:
        metrics.image_failures.labels(model.name).inc()
