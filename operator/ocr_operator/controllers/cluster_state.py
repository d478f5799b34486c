"""The cluster as the operator sees it: resources, their children and pods, nodes, GPUs, and who was promised
what.

Copies only; the API server and the pods hold the truth. Every change wakes the resource that it concerns.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from ocr_operator.decide import placement
from ocr_operator.decide.placement import NoFit, Placement, Request, Reservation
from ocr_operator.gpuload.dcgm import GpuReading
from ocr_operator.gpuload.readings import NO_GPU_NODES, GpuNodes
from ocr_operator.kube import api, informer
from ocr_operator.kube.informer import Informer
from ocr_operator.metrics import Metrics
from ocr_operator.pods.podstate import PodState
from ocr_operator.resources import names, observed, policies, spec
from ocr_operator.resources.effective import PolicyUsage
from ocr_operator.resources.observed import Key, Namespace, Node, Pod
from ocr_operator.resources.policies import Policy
from ocr_operator.settings import Settings

OURS: Final = names.LABEL_DEPLOYMENT
"""The label selector of children and pods: the API server sends nothing else."""


class ClusterState:
    """Readers get views; the watches, and the answers of our own writes, change them.

    `wake(key, urgent)` hears which resource is worth another look.
    """

    def __init__(
        self,
        kube: api.Kube,
        settings: Settings,
        *,
        enqueue: Callable[[Key, bool], None],
        metrics: Metrics,
        time: Callable[[], float],
    ) -> None:
        self._enqueue = enqueue
        self._resources: dict[Key, api.Json] = {}
        self._needs: dict[str, int] = {}
        self.declared: dict[Key, Mapping[str, int]] = {}
        """Resource → model → its `gpuMemory` in bytes, 0 where it says nothing."""
        self._reserved: dict[str, Reservation] = {}
        """Pod UID → a promise whose patch is on its way. Written only by `choose` and `release`."""
        self._placement_policy = placement.POLICIES[settings.placement_policy]
        self._waiting: set[Key] = set()
        """Resources with a pod that fits nowhere: anything that frees a GPU wakes them."""
        self.retry_seconds = settings.scrape_seconds
        """Seconds after which what doesn't fit is tried again, with new readings."""
        self.readings: Callable[[], Iterable[GpuReading]] = tuple
        """The load of all GPUs now, and below the states of pods by UID: set by those who read them."""
        self.states: Callable[[], Mapping[str, PodState]] = dict
        self._policy_usage: dict[Key, PolicyUsage] = {}
        self.on_policy_change: Callable[[str], None] = _nobody
        """Hears the name of a policy whose status is worth another look: set by the one who writes it."""
        self.gpu_nodes: GpuNodes = NO_GPU_NODES
        """Which node has which GPU; set by those who read."""
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
        """Those that nothing may be decided without; exporters are a help, not a need."""
        return [self.pods, self.nodes, self.deployments, self.services, self.policies, self.namespaces]

    # Resources

    def resource(self, key: Key) -> api.Json | None:
        return self._resources.get(key)

    def keys(self) -> list[Key]:
        return list(self._resources)

    def put_resource(self, body: api.Json) -> None:
        """A resource, by watch or as the answer to a read or a write; older than what is known: ignored."""
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
        # A status that somebody else wrote is worth a look; our own comes back here and changes nothing.
        self._enqueue(key, known is None or known["metadata"].get("generation") != meta.get("generation"))

    def remove_resource(self, body: api.Json) -> None:
        """A resource was deleted; one of the same name that came after it stays."""
        meta = body["metadata"]
        key = (meta["namespace"], meta["name"])
        known = self._resources.get(key)
        if known is not None and known["metadata"]["uid"] == meta["uid"]:
            del self._resources[key]
            self._needs.pop("/".join(key), None)
            self.declared.pop(key, None)
            self._waiting.discard(key)
            self.set_policy_usage(key, None)
            self._enqueue(key, True)

    # Children and pods

    def pods_of(self, key: Key) -> list[Pod]:
        return list(self.pods.of(key).values())

    def children(self, key: Key) -> list[api.Json]:
        return [*self.deployments.of(key).values(), *self.services.of(key).values()]

    def child_deployment(self, key: Key) -> api.Json | None:
        return self.deployments.get(key)

    def written(self, answer: api.Json) -> None:
        """The answer to a write of ours, which may be ahead of the watch."""
        match answer["kind"]:
            case "Pod":
                self.pods.put(answer)
            case "Deployment":
                self.deployments.put(answer)
            case "Service":
                self.services.put(answer)

    def pinned_to(self, pod: Pod) -> tuple[str, bool]:
        """The node that our placement pinned a pod to (empty: none), and whether it is gone or takes no pods now."""
        promised = next((each for each in placement.reserved([pod]) if each.node), None)
        if promised is None:
            return "", False
        node = self.nodes.get(("", promised.node))
        return promised.node, node is None or node.cordoned or not node.ready

    def exporter_pods(self) -> list[Pod]:
        return [pod for each in self.exporters for pod in each]

    # Policies

    def policies_of(self, body: api.Json) -> list[Policy]:
        """Those that select the resource."""
        labels, around = observed.labels(body), self._namespace_labels(body["metadata"]["namespace"])
        return [each for each in self.policies if each.selects(labels, around)]

    def set_policy_usage(self, key: Key, usage: PolicyUsage | None) -> None:
        """What became of the policies of a resource; None for a resource that is gone."""
        before = self._policy_usage.pop(key, None)
        if usage is not None:
            self._policy_usage[key] = usage
        if usage != before:
            for name in (before.selected if before else frozenset()) | (
                usage.selected if usage else frozenset()
            ):
                self.on_policy_change(name)

    def policy_usage(self) -> Iterable[PolicyUsage]:
        """Of all resources that make sense, as of their last passes."""
        return self._policy_usage.values()

    def enqueue_selected(self, *chosen: Policy) -> None:
        """Looks again at every resource that one of them selects."""
        for key, body in self._resources.items():
            labels, around = observed.labels(body), self._namespace_labels(key[0])
            if any(each.selects(labels, around) for each in chosen):
                self._enqueue(key, True)

    def _namespace_labels(self, name: str) -> Mapping[str, str]:
        """With the label that every namespace has, also while its object isn't known yet."""
        known = self.namespaces.get(("", name))
        return {"kubernetes.io/metadata.name": name, **(known.labels if known else {})}

    # Placement: the one owner of the books

    def choose(self, key: Key, request: Request, now: datetime) -> Placement | NoFit:
        """Chooses and books in one step without an await: no other choice can come in between."""
        reservations = placement.merge(
            placement.reserved(self.pods, self._needs, self.states()), self._reserved.values()
        )
        choice = placement.choose(
            request, self.nodes, self.readings(), reservations, now, policy=self._placement_policy
        )
        if isinstance(choice, Placement):
            self._reserved[choice.uid] = choice.reservation(now)
        else:
            self._waiting.add(key)
        return choice

    def release(self, uid: str) -> None:
        """The patch was answered: from now on the pod itself says what it was promised, or it wasn't."""
        self._reserved.pop(uid, None)

    def capacity_changed(self) -> None:
        """Something may fit now that did not."""
        waiting, self._waiting = self._waiting, set()
        for key in waiting:
            self._enqueue(key, False)

    # What changes wake

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        pod = new or old
        assert pod is not None
        self._enqueue((pod.namespace, pod.deployment), old is None or new is None or _matters(old, new))
        if old is not None and old.deployment != pod.deployment:
            self._enqueue((old.namespace, old.deployment), True)
        if new is None or new.finished:
            self.capacity_changed()

    def _child_changed(self, old: api.Json | None, new: api.Json | None) -> None:
        for child in (old, new):
            if child is not None:
                self._enqueue(_resource_of(child), new is None)

    def _node_changed(self, _old: Node | None, _new: Node | None) -> None:
        self.capacity_changed()

    def _policy_changed(self, old: Policy | None, new: Policy | None) -> None:
        if old is None or new is None or not old.says_the_same(new):
            self.enqueue_selected(*(each for each in (old, new) if each is not None))
        self.on_policy_change((new or old or Policy(name="")).name)

    def _namespace_changed(self, old: Namespace | None, new: Namespace | None) -> None:
        changed = new or old
        assert changed is not None
        for key in self._resources:
            if key[0] == changed.name:
                self._enqueue(key, False)


def _nobody(_name: str) -> None:
    """Nobody listens yet."""


def _matters(old: Pod, new: Pod) -> bool:
    """What somebody waits for: an address to stream from, readiness, an end."""
    return any(
        getattr(old, each) != getattr(new, each) for each in ("gated", "ip", "ready", "terminating", "phase")
    )


def _resource_of(child: api.Json) -> Key:
    meta = child["metadata"]
    return meta.get("namespace", ""), (meta.get("labels") or {}).get(names.LABEL_DEPLOYMENT, "")
