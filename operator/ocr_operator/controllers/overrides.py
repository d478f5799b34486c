"""Live overrides that have ended are removed from their resources; until then they are waited for.

The annotation has another owner, so that very text is removed and nothing else. A manifest that has it would bring it
back again and again: what was removed once and is back stays, without effect.
"""

import logging
from datetime import datetime
from typing import Final

from ocr_operator.controllers.context import Context, ResourceCache
from ocr_operator.kube import api
from ocr_operator.resources import live_override
from ocr_operator.resources.live_override import LiveOverride
from ocr_wire import names

CLOCK_SECONDS: Final = 60.0
"""Until an override ends, passes are no further apart: the wall clock may be set, and machines sleep."""
_PATH: Final = f"/metadata/annotations/{names.ANNOTATION_LIVE_OVERRIDE.replace('/', '~1')}"

log = logging.getLogger(__name__)


def seconds_left(override: LiveOverride | None, now: datetime) -> float | None:
    """Return the seconds until a pass has to look whether it has ended; None where there is nothing to wait for."""
    left = override.seconds_left(now) if override is not None else None
    return None if left is None else min(CLOCK_SECONDS, left)


async def remove_ended(context: Context, cache: ResourceCache, body: api.Json) -> None:
    """Remove the override of the resource if it has ended. Raises `api.KubeError` where trying again may help."""
    text, now = live_override.said(body), context.now()
    found = live_override.of(body, ())
    if text is None or found is None or not found.ended(now) or text == cache.removed_override:
        return
    ref = api.ref_of(body)
    operations = [{"op": "test", "path": _PATH, "value": text}, {"op": "remove", "path": _PATH}]
    try:
        answer = await context.kube.patch(ref, operations)
    except (api.NotFound, api.Conflict) as error:
        log.info("override changed meanwhile: %s", error)
        return
    except api.Refused as error:
        log.warning("an override that has ended can't be removed; it has no effect: %s", error)
        cache.removed_override = text
        return
    cache.removed_override = text
    context.cluster.answered(answer)
    log.info("removed the override of %s, which has ended", ref)
