"""A server that behaves as vLLM's does, seen from outside: processes, log, start, calls, errors, ends.

It computes nothing: an answer follows from the picture's pixels and the text. `interpreter` makes the file that
OCR_VLLM_PYTHON may name. The contract in `vllmcontract` is what it has to keep, with vLLM itself beside it.

`VLLM_STANDIN_FAULTS` may name a JSON file, read at each use: `start` (`memory`, `missing`, `checkpoint`, `hang`),
`page` (`crash`: the engine dies; `memory`: of a lack of memory; `error`: this page alone; `short`: this page alone, of
a lack of memory), `hold` (each answer waits behind its first token, while this is so), `sleep` (`lies`: it frees
nothing; `unseen`: NVML fails then; bytes that another process frees then), `wake` (bytes that it takes more than it
had, or, below 0, less).
`VLLM_STANDIN_GPU` may name a file of the stand-in for NVML: then this is a machine with a GPU.
"""

import argparse
import asyncio
import base64
import ctypes
import hashlib
import io
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web
from PIL import Image

MODULE = "vllm.entrypoints.openai.api_server"
PICTURE_TOKENS = 90
CONTEXT = 4096
NO_MEMORY = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"
Send = Callable[[list[Any], int | None], Awaitable[None]]
TOTAL, FREE = 48 << 30, 40 << 30
"""Of a GPU, and what others leave of it."""
WEIGHTS = 10 << 30
GRAPHS = 1 << 30
"""Of a GPU, what stays when it sleeps."""


def interpreter(folder: Path) -> Path:
    """Make an executable that takes Python's arguments for vLLM's module, in place of a Python that has vLLM."""
    file = folder / "python"
    root = Path(__file__).resolve().parents[2]
    file.write_text(
        f"#!{sys.executable} -I\nimport sys\nsys.path.insert(0, {str(root)!r})\n"
        "from tests.support import vllm_standin\nvllm_standin.main(sys.argv[1:])\n"
    )
    file.chmod(0o755)
    return file


def main(arguments: list[str]) -> None:
    if arguments[:2] != ["-m", MODULE]:
        sys.exit(f"{sys.executable}: No module named {' '.join(arguments)}")
    asked = _parse(arguments[2:])
    if _fault("start") == "missing":
        sys.exit(
            f"{sys.executable}: Error while finding module specification for {MODULE!r} "
            "(ModuleNotFoundError: No module named 'vllm')"
        )
    _say(f"INFO 11-28 10:00:00 [api_utils.py:347]  version 0.32.0  model {asked.model}")
    if asked.enable_sleep_mode and _gpu() is None:
        _say("pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig")
        _say("  Value error, Sleep mode is not supported on current platform.")
        sys.exit(1)
    _say("INFO 11-28 10:00:01 [model.py:733] Resolved architecture: StandIn")
    match _fault("start"):
        case "memory":
            _say(f"ERROR 11-28 10:00:02 [core.py:9] {NO_MEMORY}")
            _say("RuntimeError: Engine core initialization failed. See root cause above.")
            sys.exit(1)
        case "checkpoint":
            _say("  Value error, Model architectures ['Odd'] are not supported for now. [type=value_error]")
            sys.exit(1)
        case "hang":
            time.sleep(3600)
    if Path(asked.uds).exists():
        _say("OSError: [Errno 98] Address already in use")
        sys.exit(1)
    core = _engine_core()
    _say("INFO 11-28 10:00:03 [default_loader.py:501] Loading weights took 0.01 seconds")
    _take_gpu(WEIGHTS + GRAPHS)
    asyncio.run(Server(asked, core).run())


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("model", "served-model-name", "uds", "dtype", "generation-config", "logits-processors"):
        parser.add_argument(f"--{name}", required=name in ("model", "uds"))
    for name in ("max-num-seqs", "max-model-len", "kv-cache-memory-bytes"):
        parser.add_argument(f"--{name}", type=int, default=-1)
    for name in ("gpu-memory-utilization", "mm-processor-cache-gb"):
        parser.add_argument(f"--{name}", type=float)
    for name in (
        "enable-sleep-mode",
        "enforce-eager",
        "disable-uvicorn-access-log",
        "no-enable-log-requests",
        "no-mm-device-do-normalize",
    ):
        parser.add_argument(f"--{name}", action="store_true")
    return parser.parse_args(arguments)


def _engine_core() -> int:
    """Start an engine, which starts a worker; both live on when this process is killed."""
    core = os.fork()
    if core:
        return core
    worker = os.fork()
    _named(b"VLLM::EngineCor" if worker else b"VLLM::Worker")
    if worker == 0:
        signal.pause()
    os.waitpid(worker, 0)
    os._exit(1)


def _named(name: bytes) -> None:
    ctypes.CDLL(None).prctl(15, name)


def _say(line: str) -> None:
    print(f"(APIServer pid={os.getpid()}) {line}", flush=True)


def _faults() -> dict[str, Any]:
    file = os.environ.get("VLLM_STANDIN_FAULTS")
    if not file:
        return {}
    try:
        found = json.loads(Path(file).read_text() or "{}")
    except FileNotFoundError:  # a test may end them at any moment
        return {}
    assert isinstance(found, dict)
    return found


def _fault(of: str) -> Any:
    return _faults().get(of)


def _gpu() -> Path | None:
    file = os.environ.get("VLLM_STANDIN_GPU")
    return Path(file) if file else None


def _take_gpu(nbytes: int) -> None:
    """Have the stand-in for NVML say that so much is taken."""
    if (file := _gpu()) is not None:
        uuid = os.environ["CUDA_VISIBLE_DEVICES"]
        refusal = (
            "refuse nvmlDeviceGetMemoryInfo 999 all\n"
            if _fault("sleep") == "unseen" and nbytes == GRAPHS
            else ""
        )
        part = file.with_name(f"{file.name}.part")
        part.write_text(f"gpu {uuid} {TOTAL} {FREE - nbytes} 0 8.9 NVIDIA L40S\n{refusal}")
        part.replace(file)  # a server that accounts for memory reads it meanwhile


class Server:
    def __init__(self, asked: argparse.Namespace, core: int) -> None:
        self._asked = asked
        self._core = core
        self._dead = asyncio.Event()
        self._awake = asyncio.Event()
        self._awake.set()
        self._running = self._generated = 0
        self._context = asked.max_model_len if asked.max_model_len > 0 else _context(Path(asked.model))

    async def run(self) -> None:
        app = web.Application(client_max_size=1 << 28)
        app.add_routes(
            [
                web.get("/health", self._health),
                web.get("/metrics", self._metrics),
                web.get("/v1/models", self._models),
                web.post("/v1/chat/completions", self._completions),
            ]
        )
        if os.environ.get("VLLM_SERVER_DEV_MODE") == "1":
            app.add_routes([web.post("/sleep", self._sleep), web.post("/wake_up", self._wake_up)])
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        loop.add_reader(os.pidfd_open(self._core), self._engine_died)
        runner = web.AppRunner(app, shutdown_timeout=3600.0, handler_cancellation=True)
        await runner.setup()
        _say("INFO 11-28 10:00:04 [entry.py:140] Starting vLLM server on unix:server.sock")
        await web.UnixSite(runner, self._asked.uds).start()
        _say("INFO:     Application startup complete.")
        ends = {loop.create_task(stop.wait()), loop.create_task(self._dead.wait())}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if self._dead.is_set():
            # Answers that it has died are still sent, then it ends by itself, with the code of success.
            await asyncio.sleep(0.2)
            os._exit(0)
        os.kill(self._core, signal.SIGKILL)
        await runner.cleanup()  # it waits for its clients
        _say("INFO:     Application shutdown complete.")

    def _engine_died(self) -> None:
        if not self._dead.is_set():
            _say(
                "ERROR 11-28 10:00:09 [core.py:1512] RuntimeError: Worker failed with error 'as the faults say'"
            )
            self._dead.set()

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(status=503 if self._dead.is_set() else 200)

    async def _metrics(self, _: web.Request) -> web.Response:
        labels = '{engine="0",model_name="m"}'
        lines = (
            f"vllm:num_requests_running{labels} {float(self._running)}",
            f"vllm:generation_tokens_total{labels} {float(self._generated)}",
        )
        return web.Response(text="\n".join(lines) + "\n")

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "m", "max_model_len": self._context}]})

    async def _sleep(self, request: web.Request) -> web.Response:
        level = int(request.query.get("level", "1"))
        self._awake.clear()
        if self._asked.enable_sleep_mode and _fault("sleep") != "lies":
            _take_gpu(GRAPHS - (fault if isinstance(fault := _fault("sleep"), int) else 0))
        return web.json_response({"status": "sleeping", "level": level})

    async def _wake_up(self, _: web.Request) -> web.Response:
        _take_gpu(WEIGHTS + GRAPHS + int(_fault("wake") or 0))
        self._awake.set()
        return web.json_response({"status": "awake"})

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        await self._awake.wait()
        try:
            asked = json.loads(await request.read())
            words, prompt = self._read(asked)
        except Refused as refused:
            return _error(refused.status, *refused.args)
        except (ValueError, KeyError, TypeError) as error:
            return _error(400, str(error), None)
        limit = min(asked.get("max_tokens", self._context), self._context - prompt)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)

        async def send(choices: list[Any], done: int | None) -> None:
            usage = {} if done is None else {"usage": {"prompt_tokens": prompt, "completion_tokens": done}}
            await _event(response, {"object": "chat.completion.chunk", "choices": choices, **usage})

        await send([{"index": 0, "delta": {"role": "assistant", "content": ""}}], 0)
        self._running += 1
        try:
            await self._write(response, send, words, limit)
        finally:  # also where its client leaves
            self._running -= 1
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _write(self, response: web.StreamResponse, send: Send, words: list[str], limit: int) -> None:
        if (fault := _fault("page")) in ("crash", "memory"):
            if fault == "memory":
                _say(f"ERROR 11-28 10:00:09 [core.py:1512] {NO_MEMORY}")
            os.kill(self._worker(), signal.SIGKILL)
        for at, word in enumerate(words[:limit], 1):
            if fault == "short":
                _say(f"ERROR 11-28 10:00:08 [serving.py:9] {NO_MEMORY}")
            if fault in ("error", "short"):
                await _event(
                    response, {"error": {"message": "as the faults say", "type": "InternalServerError"}}
                )
                break
            if fault in ("crash", "memory"):
                await self._dead.wait()
            while at > 1 and _fault("hold") and not self._dead.is_set():  # noqa: ASYNC110 a file says so
                await asyncio.sleep(0.01)
            if self._dead.is_set():
                message = "EngineCore encountered an issue. See stack trace (above) for the root cause."
                await _event(
                    response, {"error": {"message": message, "type": "InternalServerError", "code": 500}}
                )
                break
            self._generated += 1
            reason = "length" if at == limit else None
            await send([{"index": 0, "delta": {"content": word}, "finish_reason": reason}], at)
        else:
            done = min(limit, len(words))
            if limit > len(words):  # one more token, which ends the answer and counts
                done += 1
                await send([{"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}], done)
            await send([], done)

    def _worker(self) -> int:
        return int(Path(f"/proc/{self._core}/task/{self._core}/children").read_text().split()[0])

    def _read(self, asked: dict[str, Any]) -> tuple[list[str], int]:
        """Return the words of the answer, a token each, and the tokens of the prompt."""
        if asked["model"] != self._asked.served_model_name:
            raise Refused(404, f"The model `{asked['model']}` does not exist.", "model")
        if not 1 <= asked.get("max_tokens", 1) <= self._context:
            raise Refused(
                400, f"max_tokens={asked['max_tokens']} cannot be greater than max_model_len", "max_tokens"
            )
        digest, prompt = hashlib.sha256(), 0
        for part in asked["messages"][0]["content"]:
            if part["type"] == "image_url":
                data = base64.b64decode(part["image_url"]["url"].partition("base64,")[2], validate=True)
                with Image.open(io.BytesIO(data)) as image:
                    digest.update(repr(image.size).encode() + image.convert("RGB").tobytes())
                prompt += PICTURE_TOKENS
            else:
                digest.update(part["text"].encode())
                prompt += len(part["text"].split())
        if prompt >= self._context:
            message = f"Input length ({prompt}) exceeds model's maximum context length ({self._context})."
            raise Refused(400, message, "input_tokens")
        return [f" {digest.hexdigest()[at : at + 4]}" for at in range(0, 64, 4)], prompt


class Refused(Exception):
    def __init__(self, status: int, message: str, param: str | None) -> None:
        super().__init__(message, param)
        self.status = status


def _context(folder: Path) -> int:
    config = json.loads((folder / "config.json").read_text())
    return int(config.get("text_config", config).get("max_position_embeddings", CONTEXT))


def _error(status: int, message: str, param: str | None) -> web.Response:
    error = {"message": message, "type": "BadRequestError", "param": param, "code": status}
    return web.json_response({"error": error}, status=status)


async def _event(response: web.StreamResponse, value: Any) -> None:
    await response.write(b"data: " + json.dumps(value).encode() + b"\n\n")
