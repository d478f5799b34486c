"""Makes the owner of a server's jobs."""

import time
from functools import partial

from ocr_inference.config.settings import Config, Settings
from ocr_inference.jobs import share
from ocr_inference.jobs.job import ENDED, JobState
from ocr_inference.jobs.owner import Jobs
from ocr_inference.jobs.table import Limits
from ocr_inference.jobs.work import Counts
from ocr_inference.manager.manager import Manager
from ocr_inference.metrics import Metrics
from ocr_wire import engines


def create(settings: Settings, config: Config, manager: Manager, metrics: Metrics) -> Jobs:
    """Make the owner of jobs, whose pages use leases of the manager; its `run` isn't started here."""
    together = {each.name: engines.BY_NAME[each.engine].reads_together for each in config.models}

    def window(model: str, reading: int) -> int:
        now = manager.snapshot().model(model)
        others = max(0, now.in_flight + now.waiting - reading)
        return share.window(manager.effective.batching.max_pages, others, together=together[model])

    # A document of any size can be a job, and its results have room.
    least = 2 * config.server.limits.max_upload_bytes
    jobs = Jobs(
        Limits(memory_bytes=max(settings.job_memory_bytes, least), keep_seconds=settings.keep_seconds),
        window,
        now=time.monotonic,
        counts=Counts(
            page=lambda outcome: metrics.job_pages.labels(outcome).inc(),
            end=lambda state: metrics.jobs_ended.labels(state).inc(),
        ),
    )
    for outcome in ("read", "failed"):
        metrics.job_pages.labels(outcome)
    for state in ENDED:
        metrics.jobs_ended.labels(state)
    for state in (JobState.QUEUED, JobState.RUNNING):
        metrics.jobs.labels(state).set_function(partial(jobs.count, state))
    metrics.kept_bytes.labels("documents").set_function(jobs.document_bytes)
    metrics.kept_bytes.labels("results").set_function(jobs.result_bytes)
    return jobs
