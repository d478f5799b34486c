"""What kubelets say of pods that they can't prepare: read from Events, for those that take long and for no other."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from ocr_operator.controllers.context import Context, ResourceCache
from ocr_operator.decide.status import starting
from ocr_operator.kube import api
from ocr_operator.resources.observed import Pod

PERIOD_SECONDS: Final = 30.0
"""Between two reads of a pod's Events."""
MAX_READ: Final = 3
"""Pods of a resource whose Events are read: replicas fail alike."""

log = logging.getLogger(__name__)


async def read_warnings(context: Context, cache: ResourceCache, pods: Sequence[Pod]) -> float | None:
    """Keep `cache.warnings` as new as need be; returns the seconds until the next look, None while none is needed.

    An Event that can't be read is none.
    """
    now, time = context.now(), context.time()
    ages = {pod.uid: now - since for pod in pods if (since := starting.since(pod)) is not None}
    slow = sorted(
        (pod for pod in pods if ages.get(pod.uid, -starting.SLOW) >= starting.SLOW), key=lambda pod: pod.name
    )
    cache.warnings = {pod.uid: cache.warnings[pod.uid] for pod in slow if pod.uid in cache.warnings}
    for pod in slow[:MAX_READ]:
        read_at, _ = cache.warnings.get(pod.uid, (float("-inf"), ""))
        if time - read_at >= PERIOD_SECONDS:
            cache.warnings[pod.uid] = time, await _read(context, pod)
    if slow:
        return PERIOD_SECONDS
    return min(((starting.SLOW - age).total_seconds() for age in ages.values()), default=None)


async def _read(context: Context, pod: Pod) -> str:
    kind = replace(api.EVENT, fields=f"involvedObject.uid={pod.uid},type=Warning")
    try:
        found = await context.kube.find(kind, namespace=pod.namespace)
    except api.KubeError as error:
        log.info("why pod %s doesn't start can't be read: %s", pod.key, error)
        return ""
    return starting.warning(found, context.now())
