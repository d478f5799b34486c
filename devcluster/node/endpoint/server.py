"""The node's HTTPS endpoint: `kubectl logs`, `kubectl port-forward`, the node's pods, its health.

It asks for no credentials: it listens on a loopback address and shows what local files show anyway.
"""

import asyncio
import os
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from devcluster.node.decide.podstatus import Running
from devcluster.node.endpoint import portforward
from devcluster.node.pods.pod import PodOwner
from devcluster.node.settings import Settings
from ocr_wire import numbers

CHUNK_BYTES = 64 * 1024
POLL_SECONDS = 0.1

Pods = Callable[[], Iterable[PodOwner]]


def certificate(settings: Settings) -> ssl.SSLContext:
    """Return the given certificate, or a self-signed one (API servers check it only if they are set up to)."""
    cert, key = settings.tls_cert, settings.tls_key
    if cert is None or key is None:
        folder = settings.root / "tls"
        folder.mkdir(parents=True, exist_ok=True)
        cert, key = folder / "node.crt", folder / "node.key"
        if not (cert.exists() and key.exists()):
            subject = ["-subj", f"/CN={settings.name}", "-addext", f"subjectAltName=IP:{settings.node_ip}"]
            kind = [
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "3650",
            ]
            files = ["-keyout", str(key), "-out", str(cert)]
            openssl = shutil.which("openssl")
            if openssl is None:
                raise FileNotFoundError(
                    "the log endpoint has no certificate: pass --tls-cert and --tls-key, or install openssl"
                )
            subprocess.run([openssl, "req", *kind, *subject, *files], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    return context


class Endpoint:
    """HTTPS endpoint for the pods that `pods` lists at the time of each request."""

    def __init__(self, pods: Pods) -> None:
        self._pods = pods

    @asynccontextmanager
    async def serve(self, settings: Settings) -> AsyncIterator[int]:
        """Serve on the node's address; yields the port."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/pods", self._list)
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._logs)
        app.router.add_route("*", "/portForward/{namespace}/{pod}", self._forward)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        try:
            site = web.TCPSite(
                runner, settings.node_ip, 0, ssl_context=await asyncio.to_thread(certificate, settings)
            )
            await site.start()
            yield runner.addresses[0][1]
        finally:
            await runner.cleanup()

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _list(self, _request: web.Request) -> web.Response:
        pods = [
            {
                "namespace": owner.pod.metadata.namespace,
                "name": owner.pod.metadata.name,
                "uid": owner.pod.metadata.uid,
                "podIP": owner.pod_ip,
            }
            for owner in self._pods()
        ]
        return web.json_response({"pods": pods})

    def _owner(self, request: web.Request) -> PodOwner | None:
        """Return the newest pod of the name in the request's path."""
        where = request.match_info["namespace"], request.match_info["pod"]
        found = [
            each for each in self._pods() if (each.pod.metadata.namespace, each.pod.metadata.name) == where
        ]
        return found[-1] if found else None

    async def _forward(self, request: web.Request) -> web.Response:
        owner = self._owner(request)
        if owner is None or not owner.pod_ip:
            raise web.HTTPNotFound(text=f"pod {request.match_info['pod']} doesn't run on this node")
        return await portforward.serve(request, owner.pod_ip)

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        where, query = request.match_info, request.query
        refused = sorted(
            {"sinceSeconds", "sinceTime", "timestamps", "stream"}
            & {key for key in query if query[key] != "false"}
        )
        refused = [key for key in refused if (key, query[key]) != ("stream", "All")]
        if refused:
            raise web.HTTPBadRequest(
                text=f"process nodes keep logs without times: {', '.join(refused)} can't be answered"
            )
        pod = self._owner(request)
        found = pod.logs(where["container"], previous=query.get("previous") == "true") if pod else None
        if found is None:
            raise web.HTTPNotFound(
                text=f"no container {where['container']} in pod {where['namespace']}/{where['pod']}"
            )
        path, owner = found
        if not path.exists():
            raise web.HTTPBadRequest(
                text=f"container {where['container']} of pod {where['pod']} has no such log (yet)"
            )
        follow = query.get("follow") == "true" and query.get("previous") != "true"
        response = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8"})
        await response.prepare(request)
        left = _number(query.get("limitBytes"))
        async for chunk in _read(
            path,
            _number(query.get("tailLines")),
            lambda: (
                follow and isinstance(owner.view.state, Running) and owner.view.restarts == int(path.stem)
            ),
        ):
            await response.write(chunk if left is None else chunk[:left])
            left = None if left is None else left - len(chunk)
            if left is not None and left <= 0:
                break
        return response


def _number(text: str | None) -> int | None:
    if not text:
        return None
    found = numbers.whole(text, 0, 2**62)
    if found is None:
        raise web.HTTPBadRequest(text=f"{text[:80]!r} is not a number")
    return found


async def _read(path: Path, tail_lines: int | None, growing: Callable[[], bool]) -> AsyncIterator[bytes]:
    """Yield the log from its last `tail_lines` lines (None: all) to its end, and beyond for as long as `growing`."""
    with path.open("rb") as file:
        if tail_lines is not None:
            file.seek(tail_start(file.fileno(), tail_lines))
        while True:
            more = growing()  # before reading: what was written before the end is read in any case
            if chunk := file.read(CHUNK_BYTES):
                yield chunk
            elif not more:
                return
            else:
                await asyncio.sleep(POLL_SECONDS)


def tail_start(descriptor: int, lines: int) -> int:
    """Return the offset at which the last `lines` lines of a file begin."""
    end = os.fstat(descriptor).st_size
    if lines == 0:
        return end
    position, wanted = end, lines + 1
    while position > 0:
        size = min(CHUNK_BYTES, position)
        position -= size
        block = os.pread(descriptor, size, position)
        if position + size == end and not block.endswith(b"\n"):
            wanted -= 1  # the last line isn't ended yet and counts all the same
        breaks = block.count(b"\n")
        if breaks >= wanted:
            for _ in range(wanted):
                size = block.rindex(b"\n", 0, size)
            return position + size + 1
        wanted -= breaks
    return 0
