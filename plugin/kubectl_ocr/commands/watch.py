"""`status -w`: a list, then a watch of the API from its version on; nothing is asked again while nothing changes.

Countdowns tick here. A watch that breaks goes on from the last version that it had, bookmarks included; where that is
too old for the API server (410), all is listed again. A connection that is dead is known by its silence, since the API
server sends bookmarks, and a watch ends by itself after `WATCH_SECONDS`.
"""

import asyncio
import sys
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlencode

from kubectl_ocr.cli import Options
from kubectl_ocr.cluster import Cluster, warn
from kubectl_ocr.commands.look import views
from kubectl_ocr.errors import Exit, Failure
from kubectl_ocr.objects.pod import Pod
from kubectl_ocr.objects.resource import Resource
from kubectl_ocr.output import paint
from kubectl_ocr.views import status as status_view
from kubectl_ocr.watching import MAX_LINE, Expired, Objects, WatchFailed
from ocr_wire import names
from ocr_wire.checked import Invalid

WATCH_SECONDS: Final = 240
SILENT_SECONDS: Final = 150.0
"""The API server sends a bookmark about once a minute."""
RETRY_SECONDS: Final = (1.0, 2.0, 4.0, 8.0, 15.0)
DRAW_SECONDS: Final = 0.2
"""Between two drawings at least: a rollout is many changes."""
TICK_SECONDS: Final = 1.0
CLEAR: Final = "\x1b[H\x1b[2J"


class Screen:
    """Owner of what is shown: draws when something changed, and on a terminal each second, for the countdowns."""

    def __init__(self, options: Options, *, ticks: bool) -> None:
        self.resources: Objects[Resource] = Objects(Resource)
        self.pods: Objects[Pod] = Objects(Pod)
        self.problems: dict[str, str] = {}
        """By kind: why its watch doesn't go on at the moment."""
        self.changed = asyncio.Event()
        self._options, self._ticks = options, ticks

    async def draw(self) -> None:
        await self.changed.wait()  # both lists are there
        while True:
            self.changed.clear()
            now = datetime.now(UTC)
            shown = views(self.resources.all(), self.pods.all(), now)
            table = status_view.render(shown, paint(), namespaces=self._options.everywhere)
            problems = "".join(f"\n{each}" for each in dict.fromkeys(self.problems.values()))
            print(f"{CLEAR if self._ticks else ''}{table}{problems}", flush=True)
            await asyncio.sleep(DRAW_SECONDS)
            try:
                async with asyncio.timeout(TICK_SECONDS - DRAW_SECONDS if self._ticks else None):
                    await self.changed.wait()
            except TimeoutError:
                continue


async def watch(options: Options, cluster: Cluster, *, ticks: bool | None = None) -> None:
    """Show the status until Ctrl-C. Raises `Failure` for what doesn't pass by itself."""
    screen = Screen(options, ticks=sys.stdout.isatty() if ticks is None else ticks)
    namespace = "" if options.everywhere else await cluster.namespace()
    if options.name:
        await cluster.resource(options.name)  # with near names where there is none of that name
    selector = f"{names.LABEL_DEPLOYMENT}={options.name}" if options.name else names.LABEL_DEPLOYMENT
    field = {"fieldSelector": f"metadata.name={options.name}"} if options.name else {}
    place = f"/namespaces/{namespace}" if namespace else ""
    resources = f"/apis/{names.API_VERSION}{place}/{names.PLURAL}"
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_watch(cluster, screen, screen.resources, resources, field))
            group.create_task(
                _watch(cluster, screen, screen.pods, f"/api/v1{place}/pods", {"labelSelector": selector})
            )
            group.create_task(screen.draw())
    except ExceptionGroup as failed:
        if (failures := failed.subgroup(Failure)) is None:
            raise
        raise failures.exceptions[0] from None


async def _watch(
    cluster: Cluster,
    screen: Screen,
    found: Objects[Resource] | Objects[Pod],
    path: str,
    selector: dict[str, str],
) -> None:
    """Keep objects as they are. Raises `Failure` for what doesn't pass by itself."""
    failures = 0
    while True:
        try:
            if not found.version:
                listed = await cluster.kubectl.run(
                    "get", "--raw", f"{path}?{urlencode(selector)}".rstrip("?")
                )
                for each in found.replace(listed)[:8]:
                    warn(each.message)
                _shown(screen, path)
            failures = 0 if await _stream(cluster, screen, found, path, selector) else failures
        except Failure as failure:
            if failure.status is not Exit.LATER:
                raise
            screen.problems[path] = str(failure)
            screen.changed.set()
            await asyncio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
            failures += 1


def _shown(screen: Screen, path: str) -> None:
    screen.problems.pop(path, None)
    if screen.resources.version and screen.pods.version:
        screen.changed.set()


async def _stream(
    cluster: Cluster,
    screen: Screen,
    found: Objects[Resource] | Objects[Pod],
    path: str,
    selector: dict[str, str],
) -> bool:
    """Follow one watch to its end; returns whether it said anything."""
    heard = False
    query = {
        **selector,
        "watch": "true",
        "allowWatchBookmarks": "true",
        "resourceVersion": found.version,
        "timeoutSeconds": str(WATCH_SECONDS),
    }
    lines = cluster.kubectl.lines(
        "get", "--raw", f"{path}?{urlencode(query)}", silent=SILENT_SECONDS, limit=MAX_LINE
    )
    async with aclosing(lines):
        async for line in lines:
            match found.apply(line):
                case Expired():
                    found.version = ""
                    return heard
                case WatchFailed(message):
                    raise Failure(message, Exit.LATER)
                case Invalid(message):
                    warn(message)
                case changed:
                    heard = True
                    if changed or path in screen.problems:
                        _shown(screen, path)
    return heard
