#!/usr/bin/env bash
# Guess: `await kopf.operator(…, stop_flag=…)` as one task of a larger program touches its own tasks only, and leaves
#   signals to the program, which has its stop_flag for that.
# What happens (kopf 1.45.2): while it starts, it puts its own handlers of SIGINT and SIGTERM in place of the program's,
#   and never gives them back: the program's isn't called even after kopf has ended. When it ends, it takes every task
#   that began after it in the same loop for its own: it waits 5 s for them and then cancels them as "hung". If one of
#   them fails within these seconds, `kopf.operator` raises that error as if it were its own.
# Why it matters here: the operator runs kopf for one watch beside its own controller. Without care, SIGTERM would skip
#   the controller's orderly end, and kopf's end would cancel the controller in the middle of a write. So we set our
#   handlers after kopf has started, and stop kopf last.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check kopf==1.45.2 aiohttp==3.14.5
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
import importlib.metadata
import os
import signal

import kopf
from aiohttp import web

LISTS = {
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "groups": []},
    "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": []},
}
failed = []


def check(what, found, expected):
    print(f"{what}: {found}")
    if found != expected:
        failed.append(what)


async def answer(request):
    """The API server of a cluster without resources."""
    return web.json_response(LISTS[request.path])


async def forever():
    await asyncio.Event().wait()


async def fail():
    await asyncio.sleep(2)  # kopf's own tasks have ended by then
    raise LookupError("an error of the program")


async def started(port, stop):
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**_):
        return kopf.ConnectionInfo(server=f"http://127.0.0.1:{port}")

    ready = asyncio.Event()
    operator = kopf.operator(
        registry=registry, standalone=True, clusterwide=True, stop_flag=stop, ready_flag=ready
    )
    task = asyncio.create_task(operator)
    await asyncio.wait_for(ready.wait(), 60)
    return task


async def main():
    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    loop = asyncio.get_running_loop()
    signalled = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, signalled.set)

    before = asyncio.create_task(forever())
    await asyncio.sleep(0)
    operator = await started(port, asyncio.Event())
    after = asyncio.create_task(forever())
    os.kill(os.getpid(), signal.SIGTERM)
    began = loop.time()
    await asyncio.wait([operator, asyncio.create_task(signalled.wait())], return_when=asyncio.FIRST_COMPLETED)
    check("SIGTERM was told to", "the program" if signalled.is_set() else "kopf", "kopf")
    check("it waited 5 s for the program's tasks", loop.time() - began >= 5, True)
    check("a task from before kopf", "cancelled" if before.done() else "runs", "runs")
    check("a task that began after kopf", "cancelled" if after.cancelled() else "runs", "cancelled")

    stop = asyncio.Event()
    operator = await started(port, stop)
    failing = asyncio.create_task(fail())
    stop.set()
    try:
        await operator
        found = "nothing"
    except Exception as error:
        found = repr(error) if error is failing.exception() else f"another error: {error!r}"
    check("kopf.operator raised", found, "LookupError('an error of the program')")

    passed = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, passed.set)
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGUSR1)
    await passed.wait()
    check("SIGTERM after kopf's end was told to", "the program" if signalled.is_set() else "nobody", "nobody")
    await runner.cleanup()


print("kopf", importlib.metadata.version("kopf"))
asyncio.run(main())
raise SystemExit(f"changed: {failed}" if failed else 0)
PYTHON
