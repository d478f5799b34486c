"""The cluster as the operator knows it: resources, their children and pods, nodes, policies, promises.

Copies only; the API server holds the truth. Every change enqueues the resource that it concerns.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from ocr_operator.controllers.accounting import Accounting, Loads, States
from ocr_operator.controllers.beginners import Beginners
from ocr_operator.controllers.budgets import Budgets
from ocr_operator.controllers.tenants import Tenants
from ocr_operator.controllers.workqueue import WorkQueue
from ocr_operator.decide import edits, placement
from ocr_operator.decide.placement import NoFit, Placement, Request
from ocr_operator.decide.placement.unschedulable import Unschedulable
from ocr_operator.decide.placement.withdrawal import Withdrawal
from ocr_operator.gpuload import trust
from ocr_operator.kube import api, informer
from ocr_operator.kube.informer import Informer
from ocr_operator.metrics import Metrics
from ocr_operator.resources import conditions, live_override, observed, policies, sharing, spec
from ocr_operator.resources.effective import PolicyUsage
from ocr_operator.resources.observed import Key, Namespace, Node, Pod
from ocr_operator.resources.pod_reader import PodReader
from ocr_operator.resources.policies import Policy
from ocr_operator.settings import Settings
from ocr_wire import names

NODES_AT_ONCE: Final = 32
"""Nodes that are looked at before others get their turn: some milliseconds."""
OURS: Final = names.LABEL_DEPLOYMENT
"""The label selector of children and pods: the API server sends nothing else."""


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
        now: Callable[[], datetime],
    ) -> None:
        self._now = now
        self.reads_nodes = settings.cluster_access == "read"
        """Whether there is a right to what has no namespace."""
        self._queue = queue
        self._policy_queue = policy_queue
        self._needs: dict[str, int] = {}
        self.declared: dict[Key, Mapping[str, int]] = {}
        """Resource → model → its `gpuMemory` in bytes, 0 where it says nothing."""
        self._waiting: dict[Key, int] = {}
        """Resources with a pod that fits nowhere → its priority: anything that frees a GPU enqueues them, the highest
        first."""
        self.retry_seconds = settings.scrape_seconds
        """Seconds after which what doesn't fit is tried again, with new readings."""
        self._policy_usage: dict[Key, PolicyUsage] = {}
        self._beginners = Beginners()
        where = settings.watch_namespaces or ("",)
        exporters_in = tuple(each for each in settings.exporter_namespace if each != trust.EVERYWHERE)
        counted = ("",) if settings.counts_all_pods else where

        def on_loss(error: api.KubeError) -> None:
            metrics.watch_losses.labels(error.ref.kind.plural).inc()
            if error.ref.kind == api.OCR_IDLE_POLICY and isinstance(error, api.NotFound):
                self.policies.synced.set()  # no definition, no policies: see crds.enabled of the chart

        self.resources: Informer[api.Json] = Informer(
            kube, api.OCR_DEPLOYMENT, informer.raw, time=time, on_change=self._resource_changed,
            on_loss=on_loss, namespaces=where, share=sharing.exactly_alike,
        )  # fmt: skip
        metrics.resources.set_function(lambda: len(self.resources))
        metrics.conditions.read = lambda: conditions.counts(self.resources)
        self._pod_reader = PodReader()
        self.pods: Informer[Pod] = Informer(
            kube, api.POD, self._pod_reader.read, time=time, on_change=self._pod_changed, on_loss=on_loss,
            group=lambda pod: (pod.namespace, pod.deployment), namespaces=counted, selector=OURS,
        )  # fmt: skip
        self.tenants = Tenants(
            kube, time=time, on_loss=on_loss, namespaces=counted, on_change=self._tenants_changed
        )
        self.accounting = Accounting(
            placement.POLICIES[settings.placement_policy],
            self.tenants,
            needs=self._needs,
            namespace_labels=self.namespace_labels,
        )
        self.nodes: Informer[Node] = Informer(
            kube, api.NODE, observed.node, time=time, on_change=self._node_changed, on_loss=on_loss
        )
        self.deployments, self.services = (
            Informer(
                kube, kind, edits.view, time=time, on_change=self._child_changed, on_loss=on_loss,
                group=_resource_of, namespaces=where, selector=OURS, share=sharing.alike,
            )
            for kind in (api.DEPLOYMENT, api.SERVICE)
        )  # fmt: skip
        self.budgets = Budgets(
            kube, time=time, on_loss=on_loss, namespaces=where,
            enqueue=lambda key: self.enqueue(key, False), enqueue_namespace=self.enqueue_namespace,
        )  # fmt: skip
        self.policies: Informer[Policy] = Informer(
            kube, api.OCR_IDLE_POLICY, policies.parse, time=time, on_change=self._policy_changed,
            on_loss=on_loss,
        )  # fmt: skip
        self.namespaces: Informer[Namespace] = Informer(
            kube, api.NAMESPACE, observed.namespace, time=time, on_change=self._namespace_changed,
            on_loss=on_loss,
        )  # fmt: skip
        metrics.policies.set_function(lambda: len(self.policies))
        self.exporters: list[Informer[Pod]] = [
            Informer(
                kube, api.POD, self._pod_reader.read, time=time, on_loss=on_loss,
                namespaces=exporters_in or counted,
                selector=selector,
            )
            for selector in settings.exporter_selectors
        ]  # fmt: skip

        for each in (*self.informers, *self.exporters):
            metrics.watch_losses.labels(each.kind.plural)  # there from the start

    @property
    def informers(self) -> Sequence[Informer[Any]]:
        """List those that nothing may be decided without; exporters are a help, not a need."""
        wide = (self.nodes, self.policies, self.namespaces) if self.reads_nodes else ()
        own = (self.resources, self.pods, self.deployments, self.services)
        return [*own, self.tenants.informer, self.budgets.informer, *wide]

    # Resources

    def enqueue(self, key: Key, urgent: bool) -> None:
        """Ask for a pass over a resource; without urgency only over one that is known."""
        if urgent or self.resources.get(key) is not None:
            self._queue.enqueue(key, urgent=urgent)

    def resource(self, key: Key) -> api.Json | None:
        return self.resources.get(key)

    def keys(self) -> list[Key]:
        return [_key(body) for body in self.resources]

    # Children and pods

    def pods_of(self, key: Key) -> list[Pod]:
        return list(self.pods.of(key).values())

    def children(self, key: Key) -> list[api.Json]:
        found = (*self.deployments.of(key).values(), *self.services.of(key).values())
        return [*found, *self.budgets.of(key)]

    def child_deployment(self, key: Key) -> api.Json | None:
        return self.deployments.get(key)

    def child_deployments(self) -> dict[Key, api.Json]:
        return {_key(child): child for child in self.deployments}

    def answered(self, answer: api.Json) -> None:
        """Take the answer to a read or a write of ours, which may be ahead of the watch."""
        match answer["kind"]:
            case names.KIND:
                self.resources.put(answer)
            case "Pod":
                self.pods.put(answer)
            case "Deployment":
                self.deployments.put(answer)
            case "Service":
                self.services.put(answer)
            case "PodDisruptionBudget":
                self.budgets.informer.put(answer)

    def unschedulable(self, pod: Pod) -> Unschedulable | None:
        """Describe a pod that the scheduler finds no node for; None if our placement keeps it from none, and while pods
        end for it: anywhere else, others would have to.
        """
        if self.tenants.ending_for(pod):
            return None
        if (found := placement.record(pod)).free:
            return Unschedulable(pod, "", lost=False, free=True) if found.excluded else None
        promised = next((each for each in placement.reserved([pod]) if each.node), None)
        if promised is None:
            return None
        first, *others = dict.fromkeys((promised.node, *(each.node for each in found.elsewhere)))
        known = [self.nodes.get(("", name)) for name in (first, *others)]
        lost = all(node is None or node.cordoned or not node.ready for node in known)
        return Unschedulable(pod, first, lost=lost, others=tuple(others))

    def exporter_pods(self) -> list[Pod]:
        return [pod for each in self.exporters for pod in each]

    # Policies

    def policies_of(self, body: api.Json) -> list[Policy]:
        """List those that select the resource."""
        labels, around = observed.labels(body), self.namespace_labels(body["metadata"]["namespace"])
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

    def namespaces_used(self) -> set[str]:
        """Return those that have resources."""
        return {body["metadata"]["namespace"] for body in self.resources}

    def enqueue_namespace(self, name: str) -> None:
        """Enqueue every resource of a namespace; an empty name is all of them."""
        for key in self.keys():
            if name in ("", key[0]):
                self.enqueue(key, True)

    def enqueue_selected(self, *chosen: Policy) -> None:
        """Enqueue every resource that one of them selects."""
        for body in self.resources:
            key = _key(body)
            labels, around = observed.labels(body), self.namespace_labels(key[0])
            if any(each.selects(labels, around) for each in chosen):
                self.enqueue(key, True)

    def namespace_labels(self, name: str) -> Mapping[str, str]:
        """Return them with the label that every namespace has, also while its object isn't known yet."""
        known = self.namespaces.get(("", name))
        return {"kubernetes.io/metadata.name": name, **(known.labels if known else {})}

    # Placement

    def choose(self, key: Key, request: Request, gpus: Loads, states: States) -> Placement | NoFit:
        """Choose and reserve a GPU for a pod of a resource."""
        if not self.reads_nodes:
            return placement.without_nodes(request)
        choice = self.accounting.choose(request, gpus, states, self._now())
        if isinstance(choice, NoFit):
            self._waiting[key] = max(request.demand.priority, self._waiting.get(key, request.demand.priority))
        return choice

    def withdraw(
        self, request: Request, gpus: Loads, states: States, ours: Callable[[str], bool]
    ) -> Withdrawal | None:
        """Choose which pods lose their promises to a pod that fits nowhere, and reserve for it what they lose. `ours`:
        whether pods of a namespace may be replaced.
        """

        def replaceable(pod: Pod) -> bool:
            return (pod.namespace, pod.deployment) in self.declared and ours(pod.namespace)

        return self.accounting.withdraw(request, gpus, states, self._now(), replaceable)

    def parts(self) -> int:
        """Return how many parts the work of `choose` has at most."""
        return len(self.nodes) // NODES_AT_ONCE + 1

    def prepare(self, request: Request, gpus: Loads, states: States) -> bool:
        """Do a part of the work of `choose`; returns whether nothing is left of what can be done in parts."""
        return self.accounting.prepare(request, gpus, states, self._now(), NODES_AT_ONCE)

    def node_ready(self, pod: Pod) -> bool:
        """Return whether the node of a pod is ready, as far as is known: False only where Kubernetes says otherwise."""
        node = self.nodes.get(("", pod.node)) if pod.node else None
        return node is None or not node.lost

    def capacity_changed(self) -> None:
        """Enqueue the resources whose pods did not fit: they may now."""
        waiting, self._waiting = self._waiting, {}
        for key in sorted(waiting, key=lambda each: -waiting[each]):
            self.enqueue(key, False)

    # What changes enqueue

    def _resource_changed(self, old: api.Json | None, new: api.Json | None) -> None:
        if new is None:
            assert old is not None
            key = _key(old)
            self._needs.pop("/".join(key), None)
            self.accounting.needs_changed(key[1], self.pods_of(key))
            self.declared.pop(key, None)
            self._waiting.pop(key, None)
            self.set_policy_usage(key, None)
            self.enqueue(key, True)
            return
        key = _key(new)
        changed = old is None or old["metadata"].get("generation") != new["metadata"].get("generation")
        overridden = old is not None and live_override.said(old) != live_override.said(new)
        # A status that another client wrote is worth a pass; our own comes back here and changes nothing.
        self.enqueue(key, changed or overridden)
        if changed and isinstance(parsed := spec.parse(new), spec.OcrDeployment):
            self._needs["/".join(key)] = parsed.spec.gpu_memory_bytes
            self.accounting.needs_changed(key[1], self.pods_of(key))
            self.declared[key] = {each.name: int(each.gpu_memory or 0) for each in parsed.spec.models}

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        pod = new or old
        assert pod is not None
        self.enqueue((pod.namespace, pod.deployment), old is None or new is None or _matters(old, new))
        if old is not None and old.deployment != pod.deployment:
            self.enqueue((old.namespace, old.deployment), True)
        self.accounting.pod_changed(old, new, self._now())
        self.tenants.pod_changed(old, new)
        for key in self._beginners.changed(old, new):
            self.enqueue(key, False)
        if new is None or new.finished:
            self.capacity_changed()

    def _child_changed(self, old: api.Json | None, new: api.Json | None) -> None:
        for child in (old, new):
            if child is not None:
                self.enqueue(_resource_of(child), new is None)

    def _tenants_changed(self, node: str) -> None:
        self.accounting.usage_changed(node)

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        self.accounting.node_changed(old, new)
        self.capacity_changed()
        name = next(each.name for each in (new, old) if each is not None)
        if (old is not None and old.lost) != (new is not None and new.lost):
            for key in {(pod.namespace, pod.deployment) for pod in self.pods if pod.node == name}:
                self.enqueue(key, False)

    def _policy_changed(self, old: Policy | None, new: Policy | None) -> None:
        if old is None or new is None or not old.says_the_same(new):
            self.enqueue_selected(*(each for each in (old, new) if each is not None))
        self._enqueue_policy((new or old or Policy(name="")).name)

    def _enqueue_policy(self, name: str) -> None:
        self._policy_queue.enqueue(("", name))

    def _namespace_changed(self, old: Namespace | None, new: Namespace | None) -> None:
        changed = new or old
        assert changed is not None
        self.accounting.namespace_changed()
        for key in self.keys():
            if key[0] == changed.name:
                self.enqueue(key, False)


def _matters(old: Pod, new: Pod) -> bool:
    """Return whether something that a pass waits for changed: an address to stream from, readiness, an end."""
    return any(
        getattr(old, each) != getattr(new, each) for each in ("gated", "ip", "ready", "terminating", "phase")
    )


def _key(body: api.Json) -> Key:
    return body["metadata"]["namespace"], body["metadata"]["name"]


def _resource_of(child: api.Json) -> Key:
    meta = child["metadata"]
    return meta.get("namespace", ""), (meta.get("labels") or {}).get(names.LABEL_DEPLOYMENT, "")
