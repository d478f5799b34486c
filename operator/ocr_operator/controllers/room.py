"""Whether a resource could have one pod more, for its roll-out."""

from dataclasses import replace

from ocr_operator.controllers.context import Context
from ocr_operator.controllers.volumes import VolumeReader
from ocr_operator.decide import placement, rollouts
from ocr_operator.decide.placement import Placement
from ocr_operator.resources.spec import OcrDeployment


async def for_one_more(context: Context, resource: OcrDeployment) -> bool:
    """Choose as for a further pod, and promise nothing. Like the pod that waits, or like any that runs. Without a GPU
    there is always room, unless a quota is full.
    """
    key = (resource.namespace, resource.name)
    if rollouts.over_quota(context.cluster.child_deployment(key)):
        return False
    if resource.spec.gpu.sharing == "none":
        return True
    if not context.cluster.reads_nodes:
        return False
    pods = [pod for pod in context.cluster.pods_of(key) if not pod.terminating and not pod.finished]
    if not pods:
        return False
    waiting = [pod for pod in pods if pod.gated]
    model = waiting[0] if waiting else replace(pods[0], uid=f"{resource.uid}/one-more", node="")
    reach = await VolumeReader(context.kube).reach(model)
    request = placement.request(resource, model, volumes=reach)
    cluster = context.cluster
    choice = cluster.choose(key, request, context.gpus, context.pods.heard)
    cluster.accounting.release(request.uid)
    return isinstance(choice, Placement)
