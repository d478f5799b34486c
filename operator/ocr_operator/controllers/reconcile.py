"""Reconciling a resource: whose it is, whether it is valid, what went wrong.

Level-based: a pass reads what is, never what happened, so it may run at any time, twice, or after a crash at any
point, and ends in the same place. Its steps are in `passes`.
"""

import logging

from ocr_operator.controllers import faults, overrides
from ocr_operator.controllers.context import Context, ResourceCache
from ocr_operator.controllers.passes import ResourcePass
from ocr_operator.decide import status
from ocr_operator.decide.ownership import Whose
from ocr_operator.decide.status import Event
from ocr_operator.kube import api
from ocr_operator.resources import effective, live_override, spec
from ocr_operator.resources.observed import Key
from ocr_operator.resources.spec import InvalidSpec

log = logging.getLogger(__name__)


class Reconciler:
    """Passes over resources; the queue sees to it that a resource has one at a time."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._caches: dict[Key, ResourceCache] = {}
        context.metrics.awake.set_function(
            lambda: sum(len(each.routing_state.members or ()) for each in self._caches.values())
        )

    async def reconcile(self, key: Key) -> float | None:
        """Run one pass; returns the seconds until the next one, None for "when something changes".

        Raises `api.KubeError`.
        """
        with self._context.metrics.reconcile_seconds.time():
            try:
                return await self._pass(key)
            except api.NotFound as error:
                body = self._context.cluster.resource(key)
                if body is None or error.ref != api.ref_of(body):
                    raise
                log.info("gone, though no watch said so: %s", error)
                self._context.cluster.resources.gone(key, body["metadata"]["uid"])
                return None
            except api.Refused as error:
                if error.ref.kind == api.OCR_DEPLOYMENT:
                    what = f"{error}; is its definition of this operator's version?"
                    await self._record(key, Event(type="Warning", reason="StatusRefused", message=what))
                raise
            except api.KubeError:
                raise
            except Exception as error:
                await faults.report(self._context, self._caches.get(key), key, faults.fault(error))
                raise
            finally:
                self._context.wave.passed(key)

    async def _pass(self, key: Key) -> float | None:
        cluster, now = self._context.cluster, self._context.now()
        body = cluster.resource(key)
        if body is None or body["metadata"].get("deletionTimestamp"):
            self._forget(key, gone=body is None)
            self._context.wave.settle(key, None)
            return None
        match self._context.whose(key[0]):
            case Whose.OTHERS:
                cluster.set_policy_usage(key, None)
                self._forget(key, gone=False)
                self._context.wave.settle(key, None)
                return None
            case Whose.UNKNOWN:
                return None  # what is known of its pods goes on serving others; the answer enqueues it
            case Whose.OURS | Whose.UNGUARDED:
                pass
        cache = self._caches.get(key)
        if cache is None or cache.uid != body["metadata"]["uid"]:
            self._forget(key, gone=False)
            cache = self._caches[key] = self._context.new_cache(body)
        resource = spec.parse(body)
        if isinstance(resource, InvalidSpec):
            cluster.set_policy_usage(key, None)
            self._context.wave.settle(key, cluster.child_deployment(key))
            reporter = self._context.reporter
            await reporter.write(cache.report, body, status.stalled(body, resource, now), urgent=True)
            await reporter.record_events(cache.report, body)
            await overrides.remove_ended(self._context, cache, body)
            return overrides.seconds_left(live_override.of(body, ()), now)
        override = live_override.of(body, [each.name for each in resource.spec.models])
        settings = effective.of(resource, cluster.policies_of(body), now, override)
        cluster.set_policy_usage(key, settings.policy_usage)
        return await ResourcePass(self._context, cache, resource, settings, body).run()

    async def _record(self, key: Key, event: Event) -> None:
        """Record an Event of what no status can tell; where that fails, too, the log has both."""
        if (body := self._context.cluster.resource(key)) is not None:
            await self._context.reporter.recorder.record(body, event)

    def _forget(self, key: Key, *, gone: bool) -> None:
        self._context.pods.forget(key)
        if (cache := self._caches.pop(key, None)) is not None:
            self._context.children.forget(cache.uid)
        if gone:
            self._context.forget(key)
