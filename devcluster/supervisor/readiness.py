"""When the parts of a starting cluster count as ready, and what those say that don't become it."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from devcluster.errors import StartFailed
from devcluster.kube.api import Api, ApiError
from devcluster.supervisor import bootstrap, helm

_POLL_SECONDS: Final = 0.05
"""No part of a starting cluster can be watched before it answers."""

_HOPELESS_RESTARTS: Final = 3

_OPERATOR: Final = f"/apis/apps/v1/namespaces/{helm.NAMESPACE}/deployments/{helm.RELEASE}"


async def poll(probe: Callable[[], Awaitable[bool]], seconds: float) -> None:
    """Ask until the answer is yes; raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                if await probe():
                    return
            except ApiError as error:
                if error.status != 0:  # it answers, and refuses: time doesn't mend that
                    raise
            await asyncio.sleep(_POLL_SECONDS)


async def answers(api: Api) -> bool:
    """Return whether the API server says that it is ready."""
    try:
        await api.text("/readyz")
    except ApiError:
        return False
    return True


async def exists(api: Api, path: str) -> bool:
    return await api.find(path) is not None


async def condition(api: Api, path: str, kind: str) -> bool:
    found = await api.find(path)
    conditions = found.get("status", {}).get("conditions") if found else None  # null in a new definition
    return any(one["type"] == kind and one["status"] == "True" for one in conditions or ())


async def exporters_ready(api: Api, wanted: int) -> bool:
    daemons = await api.find(
        f"/apis/apps/v1/namespaces/{bootstrap.EXPORTER_NAMESPACE}/daemonsets/nvidia-dcgm-exporter"
    )
    return daemons is not None and daemons.get("status", {}).get("numberReady", 0) >= wanted


async def operator_ready(api: Api) -> bool:
    """Return whether its Deployment is available; raises when its pod keeps ending, since waiting doesn't help then."""
    if await condition(api, _OPERATOR, "Available"):
        return True
    for pod in (await api.get(f"/api/v1/namespaces/{helm.NAMESPACE}/pods"))["items"]:
        restarts = [container["restartCount"] for container in pod["status"].get("containerStatuses", ())]
        if max(restarts, default=0) >= _HOPELESS_RESTARTS:
            raise StartFailed(f"the operator keeps ending:\n{await why(api, helm.NAMESPACE)}")
    return False


async def why(api: Api, namespace: str) -> str:
    """Return the states that the pods of a namespace report, and the end of their logs."""
    lines: list[str] = []
    for pod in (await api.get(f"/api/v1/namespaces/{namespace}/pods"))["items"]:
        name, status = pod["metadata"]["name"], pod["status"]
        said = {
            one["message"]
            for one in status.get("conditions", ())
            if one["status"] != "True" and one.get("message")
        }
        for container in status.get("containerStatuses", ()):
            waiting = container.get("state", {}).get("waiting", {})
            said.add(f"{waiting.get('reason', '')} {waiting.get('message', '')}".strip())
        lines += [f"  {name}: {text}" for text in sorted(said) if text]
        lines += [
            f"  {line}"
            for line in (await _last_words(api, f"/api/v1/namespaces/{namespace}/pods/{name}/log"))
        ]
    return "\n".join(lines) or f"  there are no pods in {namespace}"


async def _last_words(api: Api, path: str) -> list[str]:
    """Return the end of a pod's log, or of the log before its restart when it has logged nothing since."""
    for query in ("tailLines=12", "tailLines=12&previous=true"):
        with contextlib.suppress(ApiError):
            if lines := (await api.text(f"{path}?{query}")).splitlines():
                return lines
    return []
