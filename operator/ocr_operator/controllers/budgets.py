"""The PodDisruptionBudgets of the watched namespaces: the operator's own, and those that keep it from making one."""

from collections.abc import Callable

from ocr_operator.decide import edits, manifests
from ocr_operator.kube import api
from ocr_operator.kube.informer import Informer
from ocr_operator.resources import sharing
from ocr_operator.resources.observed import Key
from ocr_operator.resources.reading import mapping, text
from ocr_operator.resources.spec import OcrDeployment
from ocr_wire import names


class Budgets:
    """`enqueue` gets the resource whose own budget changed, `enqueue_namespace` where another one did."""

    def __init__(
        self,
        kube: api.Kube,
        *,
        time: Callable[[], float],
        on_loss: Callable[[api.KubeError], None],
        namespaces: tuple[str, ...],
        enqueue: Callable[[Key], None],
        enqueue_namespace: Callable[[str], None],
    ) -> None:
        self._enqueue = enqueue
        self._enqueue_namespace = enqueue_namespace
        self._on_loss = on_loss
        self._refused = False
        self.informer: Informer[api.Json] = Informer(
            kube, api.BUDGET, edits.view, time=time, on_change=self._changed, on_loss=self._lost,
            on_first=self._listed, group=_place, namespaces=namespaces, share=sharing.alike,
        )  # fmt: skip

    def of(self, key: Key) -> list[api.Json]:
        """List those that bear the resource's label."""
        return [each for each in self._around(key) if _resource(each) == key]

    def wanted(self, resource: OcrDeployment) -> bool:
        """Return whether the resource is to have one; not in a namespace where the operator may not read which there
        are.
        """
        around = self._around((resource.namespace, resource.name))
        others = [each for each in around if not _belongs(each, resource.uid)]
        return self.informer.listed(resource.namespace) and manifests.wants_budget(resource, others)

    def _around(self, key: Key) -> list[api.Json]:
        """List those that may have to do with the resource's pods: its own, and people's. Those of other resources, as
        many as there are of these, select pods of theirs alone.
        """
        return [*self.informer.of(key).values(), *self.informer.of((key[0], "")).values()]

    def _lost(self, error: api.KubeError) -> None:
        self._on_loss(error)
        if isinstance(error, api.Refused):
            self._refused = True
            self.informer.synced.set()  # a role of an earlier version: all else works without

    def _listed(self, namespace: str) -> None:
        """Have resources looked at that had to do without: their passes were before the role had the right."""
        if self._refused:
            self._enqueue_namespace(namespace)

    def _changed(self, old: api.Json | None, new: api.Json | None) -> None:
        if old is not None and new is not None and _said(old) == _said(new):
            return  # only its status, which changes with each pod
        for each in (old, new):
            if each is not None and _resource(each)[1]:
                self._enqueue(_resource(each))
            if each is not None and not _of_ours(each):
                self._enqueue_namespace(_namespace(each))


def _said(budget: api.Json) -> tuple[object, ...]:
    meta = budget["metadata"]
    return budget.get("spec"), meta.get("labels"), meta.get("annotations"), meta.get("ownerReferences")


def _namespace(budget: api.Json) -> str:
    return str(budget["metadata"].get("namespace", ""))


def _place(budget: api.Json) -> Key:
    """Return the resource that has the budget; without a name for one of people, which may select any pods."""
    return _resource(budget) if _of_ours(budget) else (_namespace(budget), "")


def _resource(budget: api.Json) -> Key:
    return _namespace(budget), text(mapping(budget["metadata"], "labels"), names.LABEL_DEPLOYMENT)


def _owner(budget: api.Json) -> api.Json:
    owners = budget["metadata"].get("ownerReferences") or ()
    return next((each for each in owners if each.get("controller")), {})


def _of_ours(budget: api.Json) -> bool:
    return bool(_owner(budget).get("kind") == names.KIND)


def _belongs(budget: api.Json, uid: str) -> bool:
    return bool(_owner(budget).get("uid") == uid)
