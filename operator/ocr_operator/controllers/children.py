"""The children of a resource: written when they differ, deleted when they are no longer wanted.

What they should be is decided in `manifests`, what to do about it in `plan`; here it is done.
"""

import base64
import contextlib
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ocr_operator.controllers.cluster_state import ClusterState
from ocr_operator.controllers.comparisons import Comparison, MadeFrom
from ocr_operator.controllers.wave import Wave
from ocr_operator.decide import edits, manifests, plan, rollouts, waves
from ocr_operator.decide.manifests import Defaults
from ocr_operator.decide.status import Edited, Refusal, Removal, Unwritten
from ocr_operator.decide.waves import Cause
from ocr_operator.kube import api
from ocr_operator.metrics import Metrics
from ocr_operator.resources.spec import OcrDeployment
from ocr_wire import names, tokens

MAX_MESSAGE = 1000
"""Characters of a refusal that go into a condition."""
MAX_ADVICE: Final = 500
"""Characters of them that say what others have to do with it."""
_OF_THE_NAMESPACE: Final = re.compile(rf"{rollouts.OVER_QUOTA.pattern}|because it is being terminated")
"""What is refused for the namespace's sake: no change of the resource would help, and the same may work later."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Manifests, and what they were made from."""

    made_from: MadeFrom
    manifests: Sequence[api.Json]


Confirm = Callable[[], Awaitable[None]]
"""Returns if the resource is there; called before anything is written for it. Raises `api.KubeError` if it isn't."""

Rank = Callable[[], Awaitable[object]]
"""Says of the pods which of them are to be ended first; called before a Deployment is written, which may end some."""

Room = Callable[[], Awaitable[bool]]
"""Says whether there is room for one pod more."""

log = logging.getLogger(__name__)


def obstacle(error: api.KubeError) -> Refusal | Unwritten | None:
    """Return what an error in the way of a child means for the resource; None where there is nothing to report."""
    message = str(error)[:MAX_MESSAGE]
    match error:
        case api.Refused() if _OF_THE_NAMESPACE.search(error.message):
            return Unwritten(message=message)
        case api.Refused():
            return Refusal(reason="ManifestRefused", message=message)
        case api.Unavailable() if error.status >= 500:
            return Unwritten(message=message)
    return None


class _Taken(api.Conflict):
    """A child that was to be new wasn't written: an object has its name, or the API server takes no version of one that
    isn't there.
    """


class Children:
    """Knows the Secret of every resource by its UID: Secrets are never listed or watched, only read by name."""

    def __init__(
        self,
        kube: api.Kube,
        cluster: ClusterState,
        *,
        defaults: Defaults,
        wave: Wave,
        metrics: Metrics,
        new_token: Callable[[], str],
    ) -> None:
        self._kube = kube
        self._cluster = cluster
        self._defaults = defaults
        self._wave = wave
        self._metrics = metrics
        self._new_token = new_token
        self._secrets: dict[str, api.Json] = {}
        self._compared: dict[str, Comparison] = {}
        self._wanted: dict[str, _Wanted] = {}
        """Manifests of resources whose children aren't as they should be yet: of the others, none are needed."""

    def doubt_secret(self, uid: str) -> None:
        """Have the Secret read again."""
        self._secrets.pop(uid, None)

    def forget(self, uid: str) -> None:
        """Nothing of the resource is needed any more."""
        self._secrets.pop(uid, None)
        self._compared.pop(uid, None)
        self._wanted.pop(uid, None)

    async def token(self, resource: OcrDeployment, confirm: Confirm, *, new: bool = False) -> str:
        """The admin token of the resource's pods. Its Secret is made here: only one of two operators wins.

        `new`, here and in `ensure`: the resource most probably has no children yet, so they are written without being
        looked for. What is there all the same is read, and never written over unseen.
        """
        fresh = self._new_token()
        return _token(await self._secret(resource, fresh, confirm, new=new), resource) or fresh

    async def _secret(
        self, resource: OcrDeployment, fresh: str, confirm: Confirm, *, new: bool = False
    ) -> api.Json:
        """Return the Secret of that name; one that is the resource's own, and stays, isn't read again."""
        known = self._secrets.get(resource.uid)
        if known is None:
            found = await self._get_or_create(manifests.admin_secret(resource, fresh), confirm, new=new)
            known = edits.view(found)
            if plan.is_settled(known, resource.uid):
                self._secrets[resource.uid] = known
        return known

    async def ensure(
        self,
        resource: OcrDeployment,
        token: str,
        confirm: Confirm,
        rank: Rank,
        has_room: Room,
        *,
        new: bool = False,
    ) -> Refusal | Removal | Edited | None:
        """Make the children the desired ones. Raises `api.KubeError`; see `obstacle`."""
        try:
            return await self._ensure(resource, token, confirm, rank, has_room, new=new)
        except _Taken as taken:
            log.info("looks at children that are there already: %s", taken)
            return await self._ensure(resource, token, confirm, rank, has_room, new=False)

    async def _ensure(
        self, resource: OcrDeployment, token: str, confirm: Confirm, rank: Rank, has_room: Room, *, new: bool
    ) -> Refusal | Removal | Edited | None:
        key = (resource.namespace, resource.name)
        child = self._cluster.child_deployment(key)
        new_first = rollouts.new_first(child) if child else manifests.new_first_at_first(resource)
        made_from = self._made_from(resource, token, new_first=new_first)
        owned = [*self._cluster.children(key), await self._secret(resource, token, confirm)]
        known = self._compared.get(resource.uid)
        if known is not None and known.fits(made_from, owned):
            turn, todo = _turn_again(resource, owned, held=known.held), known.plan
        else:
            desired = self._desired(resource, made_from)
            if not new:
                owned += await self._foreign(desired, owned)
            turn = _turn(resource, desired, owned)
            todo = self._plan(resource, made_from, turn, owned)
        try:
            if todo.blocked or todo.waits:
                turn = _Turn(turn.rolled_by)  # nothing is written, so it needs no turn
                if todo.blocked:
                    return Refusal(reason="NameTaken", message="; ".join(todo.blocked)[:MAX_MESSAGE])
                return Removal(message="; ".join(todo.waits)[:MAX_MESSAGE])
            if turn.held is not None and self._wave.take(key, turn.held):
                turn = _Turn(waves.turn_of(turn.held))
                todo = self._plan(resource, made_from, turn, owned)
            waits = any(pod.gated for pod in self._cluster.pods_of(key))
            changes = _writes_deployment(todo) and turn.held is None
            if rollouts.asks_for_room(child, changes=changes, waits=waits):
                again = self._made_from(resource, token, new_first=await has_room())
                if again != made_from:
                    todo = self._plan(resource, again, turn, owned)
            await self._write(resource, todo, confirm, rank, unseen=new)
            texts = ("; ".join(each)[:MAX_MESSAGE] for each in (todo.edits, todo.drifts))
            return Edited(*texts) if todo.edits or todo.drifts else None
        finally:
            self._wave.settle(key, self._cluster.child_deployment(key), waits=turn.held is not None)

    async def _write(
        self, resource: OcrDeployment, todo: plan.Plan, confirm: Confirm, rank: Rank, *, unseen: bool
    ) -> None:
        """Write and delete. Raises `_Taken` for one that wasn't looked for (`unseen`) and is there."""
        if todo:
            await confirm()
        for sentence in todo.why:
            log.info("child %s", sentence, extra={"resource": f"{resource.namespace}/{resource.name}"})
        for old in todo.delete:
            await self._delete(old)
        if _writes_deployment(todo):
            await rank()
        seen = {api.ref_of(each) for each in self._cluster.children((resource.namespace, resource.name))}
        for new in todo.apply:
            ref = api.ref_of(new)
            blind = unseen and new["kind"] != api.SECRET.name and ref not in seen
            try:
                answer = await self._kube.apply(api.as_new(new) if blind else new)
            except (api.Conflict, api.NotFound) as error:
                if not blind:
                    raise
                raise _Taken(ref, error.status, error.message) from error
            except api.Refused as error:
                raise self._explained(error, new) from error
            self._metrics.children.labels("apply").inc()
            if new["kind"] == api.SECRET.name:
                self._secrets[resource.uid] = edits.view(answer)
            else:
                self._cluster.answered(answer)

    def _explained(self, error: api.Refused, wanted: api.Json) -> api.Refused:
        """Return the refusal with what others have set in the object: what we want may not go with it."""
        meta = wanted["metadata"]
        owned = self._cluster.children((meta["namespace"], meta["labels"][names.LABEL_DEPLOYMENT]))
        there = next((each for each in owned if api.ref_of(each) == error.ref), None)
        advice = edits.way_out(wanted, there)[:MAX_ADVICE] if there is not None else ""
        said = error.message[: MAX_MESSAGE - MAX_ADVICE - len(str(error.ref)) - 50]
        return api.Refused(error.ref, error.status, f"{said}; {advice}") if advice else error

    def _made_from(self, resource: OcrDeployment, token: str, *, new_first: bool) -> MadeFrom:
        with_budget = self._cluster.budgets.wanted(resource)
        return MadeFrom(resource.generation, resource.spec, token, new_first, with_budget)

    def _desired(self, resource: OcrDeployment, made_from: MadeFrom) -> Sequence[api.Json]:
        known = self._wanted.get(resource.uid)
        if known is None or known.made_from != made_from:
            found = manifests.desired(
                resource,
                self._defaults,
                made_from.token,
                new_first=made_from.new_first,
                with_budget=made_from.with_budget,
            )
            known = self._wanted[resource.uid] = _Wanted(made_from, found)
        return known.manifests

    def _plan(
        self, resource: OcrDeployment, made_from: MadeFrom, turn: "_Turn", owned: Sequence[api.Json]
    ) -> plan.Plan:
        found = plan.plan(turn.of(self._desired(resource, made_from)), owned)
        if not (found or found.blocked or found.waits):
            self._compared[resource.uid] = Comparison(made_from, owned, found, held=turn.held is not None)
            self._wanted.pop(resource.uid, None)
        return found

    async def _get_or_create(self, secret: api.Json, confirm: Confirm, *, new: bool) -> api.Json:
        ref = api.ref_of(secret)
        if not new:
            with contextlib.suppress(api.NotFound):
                return await self._kube.get(ref)
        await confirm()
        try:
            return await self._kube.apply(api.as_new(secret))
        except (api.Conflict, api.NotFound):
            with contextlib.suppress(api.NotFound):
                return await self._kube.get(ref)
        return await self._kube.apply(secret)  # nothing has the name: it was the version that was refused

    async def _foreign(self, desired: Sequence[api.Json], owned: Sequence[api.Json]) -> list[api.Json]:
        """Objects of a desired name that our label doesn't find: server-side apply would take them over."""
        have = {(each["kind"], each["metadata"]["name"]) for each in owned}
        found = []
        for each in desired:
            if (each["kind"], each["metadata"]["name"]) not in have:
                try:
                    found.append(await self._kube.get(api.ref_of(each)))
                except api.NotFound:
                    continue
        return found

    async def _delete(self, old: api.Json) -> None:
        try:
            await self._kube.delete(api.ref_of(old), uid=old["metadata"]["uid"])
        except api.NotFound:
            return
        self._metrics.children.labels("delete").inc()


@dataclass(frozen=True, slots=True)
class _Turn:
    """Word and template with which the Deployment is written."""

    rolled_by: str
    held: api.Json | None = None
    """The Deployment whose template stays as it is."""

    def of(self, desired: Sequence[api.Json]) -> list[api.Json]:
        """Return the manifests with that of the Deployment as it is to be written."""
        return [each if each["kind"] != api.DEPLOYMENT.name else self._deployment(each) for each in desired]

    def _deployment(self, wanted: api.Json) -> api.Json:
        manifest = waves.held(wanted, self.held) if self.held is not None else wanted
        return waves.marked(manifest, self.rolled_by)


def _turn(
    resource: OcrDeployment,
    desired: Sequence[api.Json],
    owned: Sequence[api.Json],
) -> "_Turn":
    """Decide whether the template that is wanted may be written now, or only when it is the resource's turn."""
    wanted = next(each for each in desired if each["kind"] == api.DEPLOYMENT.name)
    child = _deployment(resource, owned)
    if child is None:
        return _Turn(names.RESOURCE_CHANGED)
    compared = resource.status.get("observedGeneration") == resource.generation
    match waves.cause(wanted, child, compared=compared):
        case Cause.SAME:
            return _Turn(waves.rolled_by(child))
        case Cause.RESOURCE:
            return _Turn(names.RESOURCE_CHANGED)
        case Cause.DEFAULTS:
            return _Turn(waves.rolled_by(child), held=child)


def _turn_again(resource: OcrDeployment, owned: Sequence[api.Json], *, held: bool) -> "_Turn":
    """Return the turn of children of which nothing was to be written."""
    child = _deployment(resource, owned)
    assert child is not None
    return _Turn(waves.rolled_by(child), child if held else None)


def _deployment(resource: OcrDeployment, owned: Sequence[api.Json]) -> api.Json | None:
    ref = api.Ref(api.DEPLOYMENT, resource.namespace, resource.name)
    return next((each for each in owned if api.ref_of(each) == ref), None)


def _writes_deployment(todo: plan.Plan) -> bool:
    return any(new["kind"] == api.DEPLOYMENT.name for new in todo.apply)


def _token(secret: api.Json, resource: OcrDeployment) -> str:
    """Empty for a Secret that isn't ours, whatever it holds, and for a damaged one or one that no header takes."""
    labels = secret["metadata"].get("labels") or {}
    if labels.get(names.LABEL_DEPLOYMENT) != resource.name and not plan.is_settled(secret, resource.uid):
        return ""
    try:
        text = (secret.get("data") or {}).get(names.ADMIN_KEY, "")
        return tokens.parse(base64.b64decode(text, validate=True))
    except ValueError:
        return ""
