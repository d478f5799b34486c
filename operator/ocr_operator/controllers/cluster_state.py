"""The cluster as the operator knows it: resources, their children and pods, nodes, policies, promises.

Copies only; the API server holds the truth. Every change enqueues the resource that it concerns.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal

from ocr_operator.controllers.workqueue import WorkQueue
from ocr_operator.decide import placement
from ocr_operator.decide.placement import NoFit, Placement, Request, Reservation
from ocr_operator.gpuload.dcgm import GpuReading
from ocr_operator.kube import api, informer
from ocr_operator.kube.informer import Informer
from ocr_operator.metrics import Metrics
from ocr_operator.resources import observed, policies, spec
from ocr_operator.resources.effective import PolicyUsage
from ocr_operator.resources.observed import Key, Namespace, Node, Pod
from ocr_operator.resources.policies import Policy
from ocr_operator.settings import Settings
from ocr_wire import names
from ocr_wire.state import PodState

OURS: Final = names.LABEL_DEPLOYMENT
"""The label selector of children and pods: the API server sends nothing else."""


Change = Literal["ADDED", "MODIFIED", "DELETED"]


class ClusterState:
    """Views of the cluster; only watches, and the answers of our own writes, change them.

    `queue` gets the keys of resources that are worth a pass, `policy_queue` those of policies.
    """

    def __init__(
        self,
        kube: api.Kube,
        settings: Settings,
        *,
        queue: WorkQueue,
        policy_queue: WorkQueue,
        metrics: Metrics,
        time: Callable[[], float],
    ) -> None:
        self._queue = queue
        self._policy_queue = policy_queue
        self._resources: dict[Key, api.Json] = {}
        self._needs: dict[str, int] = {}
        self.declared: dict[Key, Mapping[str, int]] = {}
        """Resource → model → its `gpuMemory` in bytes, 0 where it says nothing."""
        self._reserved: dict[str, Reservation] = {}
        """Pod UID → a promise whose patch is on its way. Written only by `choose` and `release`."""
        self._placement_policy = placement.POLICIES[settings.placement_policy]
        self._waiting: set[Key] = set()
        """Resources with a pod that fits nowhere: anything that frees a GPU enqueues them."""
        self.retry_seconds = settings.scrape_seconds
        """Seconds after which what doesn't fit is tried again, with new readings."""
        self._policy_usage: dict[Key, PolicyUsage] = {}
        metrics.resources.set_function(lambda: len(self._resources))
        where = settings.watch_namespaces or ("",)

        def on_loss(error: api.KubeError) -> None:
            metrics.watch_losses.labels(error.ref.kind.plural).inc()
            if error.ref.kind == api.OCR_IDLE_POLICY and isinstance(error, api.NotFound):
                self.policies.synced.set()  # no definition, no policies: see crds.enabled of the chart

        self.pods: Informer[Pod] = Informer(
            kube, api.POD, observed.pod, time=time, on_change=self._pod_changed, on_loss=on_loss,
            group=lambda pod: (pod.namespace, pod.deployment), namespaces=where, selector=OURS,
        )  # fmt: skip
        self.nodes: Informer[Node] = Informer(
            kube, api.NODE, observed.node, time=time, on_change=self._node_changed, on_loss=on_loss
        )
        self.deployments, self.services = (
            Informer(
                kube, kind, informer.raw, time=time, on_change=self._child_changed, on_loss=on_loss,
                group=_resource_of, namespaces=where, selector=OURS,
            )
            for kind in (api.DEPLOYMENT, api.SERVICE)
        )  # fmt: skip
        self.policies: Informer[Policy] = Informer(
            kube,
            api.OCR_IDLE_POLICY,
            policies.parse,
            time=time,
            on_change=self._policy_changed,
            on_loss=on_loss,
        )
        self.namespaces: Informer[Namespace] = Informer(
            kube,
            api.NAMESPACE,
            observed.namespace,
            time=time,
            on_change=self._namespace_changed,
            on_loss=on_loss,
        )
        metrics.policies.set_function(lambda: len(self.policies))
        self.exporters: list[Informer[Pod]] = [
            Informer(
                kube, api.POD, observed.pod, time=time, on_loss=on_loss,
                namespaces=(settings.exporter_namespace,) if settings.exporter_namespace else where,
                selector=selector,
            )
            for selector in settings.exporter_selectors
        ]  # fmt: skip

    @property
    def informers(self) -> Sequence[Informer[Any]]:
        """List those that nothing may be decided without; exporters are a help, not a need."""
        return [self.pods, self.nodes, self.deployments, self.services, self.policies, self.namespaces]

    # Resources

    def observe(self, change: Change | None, body: api.Json) -> None:
        """Take a resource as its watch brings it; `change` is None for what was there before."""
        if change == "DELETED":
            self.remove_resource(body)
        else:
            self.put_resource(body)

    def enqueue(self, key: Key, urgent: bool) -> None:
        """Ask for a pass over a resource; without urgency only over one that is known."""
        if urgent or key in self._resources:
            self._queue.enqueue(key, urgent=urgent)

    def resource(self, key: Key) -> api.Json | None:
        return self._resources.get(key)

    def keys(self) -> list[Key]:
        return list(self._resources)

    def put_resource(self, body: api.Json) -> None:
        """Take a resource, from the watch or as the answer to a read or a write; an older one is ignored."""
        meta = body["metadata"]
        key = (meta["namespace"], meta["name"])
        known = self._resources.get(key)
        if known is not None and known["metadata"]["uid"] == meta["uid"] and not informer.newer(body, known):
            return
        self._resources[key] = informer.raw(body)
        if known is None or known["metadata"].get("generation") != meta.get("generation"):
            parsed = spec.parse(body)
            if isinstance(parsed, spec.OcrDeployment):
                self._needs["/".join(key)] = parsed.spec.gpu_memory_bytes
                self.declared[key] = {each.name: int(each.gpu_memory or 0) for each in parsed.spec.models}
        # A status that another client wrote is worth a pass; our own comes back here and changes nothing.
        self.enqueue(key, known is None or known["metadata"].get("generation") != meta.get("generation"))

    def remove_resource(self, body: api.Json) -> None:
        """Drop a resource that was deleted; one of the same name that came after it stays."""
        meta = body["metadata"]
        key = (meta["namespace"], meta["name"])
        known = self._resources.get(key)
        if known is not None and known["metadata"]["uid"] == meta["uid"]:
            del self._resources[key]
            self._needs.pop("/".join(key), None)
            self.declared.pop(key, None)
            self._waiting.discard(key)
            self.set_policy_usage(key, None)
            self.enqueue(key, True)

    # Children and pods

    def pods_of(self, key: Key) -> list[Pod]:
        return list(self.pods.of(key).values())

    def children(self, key: Key) -> list[api.Json]:
        return [*self.deployments.of(key).values(), *self.services.of(key).values()]

    def child_deployment(self, key: Key) -> api.Json | None:
        return self.deployments.get(key)

    def written(self, answer: api.Json) -> None:
        """Take the answer to a write of ours, which may be ahead of the watch."""
        match answer["kind"]:
            case "Pod":
                self.pods.put(answer)
            case "Deployment":
                self.deployments.put(answer)
            case "Service":
                self.services.put(answer)

    def pinned_to(self, pod: Pod) -> tuple[str, bool]:
        """Return the node that our placement pinned a pod to (empty: none), and whether it is lost to pods now."""
        promised = next((each for each in placement.reserved([pod]) if each.node), None)
        if promised is None:
            return "", False
        node = self.nodes.get(("", promised.node))
        return promised.node, node is None or node.cordoned or not node.ready

    def exporter_pods(self) -> list[Pod]:
        return [pod for each in self.exporters for pod in each]

    # Policies

    def policies_of(self, body: api.Json) -> list[Policy]:
        """List those that select the resource."""
        labels, around = observed.labels(body), self._namespace_labels(body["metadata"]["namespace"])
        return [each for each in self.policies if each.selects(labels, around)]

    def set_policy_usage(self, key: Key, usage: PolicyUsage | None) -> None:
        """Record what became of the policies of a resource; None for a resource that is gone."""
        before = self._policy_usage.pop(key, None)
        if usage is not None:
            self._policy_usage[key] = usage
        if usage != before:
            for name in (before.selected if before else frozenset()) | (
                usage.selected if usage else frozenset()
            ):
                self._enqueue_policy(name)

    def policy_usage(self) -> Iterable[PolicyUsage]:
        """List it for all valid resources, as of their last passes."""
        return self._policy_usage.values()

    def enqueue_selected(self, *chosen: Policy) -> None:
        """Enqueue every resource that one of them selects."""
        for key, body in self._resources.items():
            labels, around = observed.labels(body), self._namespace_labels(key[0])
            if any(each.selects(labels, around) for each in chosen):
                self.enqueue(key, True)

    def _namespace_labels(self, name: str) -> Mapping[str, str]:
        """Return them with the label that every namespace has, also while its object isn't known yet."""
        known = self.namespaces.get(("", name))
        return {"kubernetes.io/metadata.name": name, **(known.labels if known else {})}

    # Placement: the one owner of reservations

    def choose(
        self,
        key: Key,
        request: Request,
        readings: Iterable[GpuReading],
        states: Mapping[str, PodState],
        now: datetime,
    ) -> Placement | NoFit:
        """Choose and reserve in one step without an await: no other choice can come in between.

        `readings` are of all GPUs, `states` those of pods by UID.
        """
        reservations = placement.merge(
            placement.reserved(self.pods, self._needs, states), self._reserved.values()
        )
        choice = placement.choose(
            request, self.nodes, readings, reservations, now, policy=self._placement_policy
        )
        if isinstance(choice, Placement):
            self._reserved[choice.uid] = choice.reservation(now)
        else:
            self._waiting.add(key)
        return choice

    def release(self, uid: str) -> None:
        """Drop a reservation whose patch was answered: from now on the pod itself carries it, or nothing does."""
        self._reserved.pop(uid, None)

    def capacity_changed(self) -> None:
        """Enqueue the resources whose pods did not fit: they may now."""
        waiting, self._waiting = self._waiting, set()
        for key in waiting:
            self.enqueue(key, False)

    # What changes enqueue

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        pod = new or old
        assert pod is not None
        self.enqueue((pod.namespace, pod.deployment), old is None or new is None or _matters(old, new))
        if old is not None and old.deployment != pod.deployment:
            self.enqueue((old.namespace, old.deployment), True)
        if new is None or new.finished:
            self.capacity_changed()

    def _child_changed(self, old: api.Json | None, new: api.Json | None) -> None:
        for child in (old, new):
            if child is not None:
                self.enqueue(_resource_of(child), new is None)

    def _node_changed(self, _old: Node | None, _new: Node | None) -> None:
        self.capacity_changed()

    def _policy_changed(self, old: Policy | None, new: Policy | None) -> None:
        if old is None or new is None or not old.says_the_same(new):
            self.enqueue_selected(*(each for each in (old, new) if each is not None))
        self._enqueue_policy((new or old or Policy(name="")).name)

    def _enqueue_policy(self, name: str) -> None:
        self._policy_queue.enqueue(("", name))

    def _namespace_changed(self, old: Namespace | None, new: Namespace | None) -> None:
        changed = new or old
        assert changed is not None
        for key in self._resources:
            if key[0] == changed.name:
                self.enqueue(key, False)


def _matters(old: Pod, new: Pod) -> bool:
    """Return whether something that a pass waits for changed: an address to stream from, readiness, an end."""
    return any(
        getattr(old, each) != getattr(new, each) for each in ("gated", "ip", "ready", "terminating", "phase")
    )


def _resource_of(child: api.Json) -> Key:
    meta = child["metadata"]
    return meta.get("namespace", ""), (meta.get("labels") or {}).get(names.LABEL_DEPLOYMENT, "")
