"""What the end of each pod costs, written on it when some may be ended."""

from collections.abc import Sequence
from functools import partial

from ocr_operator.controllers.context import PodWriter
from ocr_operator.decide import deletion_cost, placement
from ocr_operator.pods.client import PodClient
from ocr_operator.resources.observed import Key, Pod
from ocr_wire import names
from ocr_wire.state import PodState


async def write(links: PodClient, key: Key, pods: Sequence[Pod], writer: PodWriter) -> None:
    """Annotate the pods of a resource, and only then: following their states would be a write for each change."""
    reported = {pod.uid: links.state(key, pod.uid)[0] for pod in pods}
    states = {uid: state for uid, state in reported.items() if isinstance(state, PodState)}
    costs = deletion_cost.costs(pods, states)
    stamps = (
        (pod, placement.stamp(pod, {names.ANNOTATION_DELETION_COST: costs[pod.uid]}))
        for pod in pods
        if pod.uid in costs
    )
    await writer.together(
        [partial(writer.patch, pod, operations) for pod, operations in stamps if operations]
    )
