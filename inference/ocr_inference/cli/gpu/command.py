"""Carries out `ocr-inference gpu`: one call, and what it says."""

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import msgspec
from yarl import URL

from ocr_inference.cli import exits
from ocr_inference.cli.gpu import table
from ocr_inference.cli.read.progress import safe
from ocr_inference.cli.server import client
from ocr_inference.errors import ApiError
from ocr_wire import names, state
from ocr_wire.checked import Invalid
from ocr_wire.redaction import redact

WAKE_SECONDS: Final = 3600.0
"""How long a control may take: a model may be downloaded, or a page be read before it goes."""
PATHS: Final = {
    "load": names.PATH_LOAD,
    "offload": names.PATH_OFFLOAD,
    "release": names.PATH_RELEASE,
    "timeout": names.PATH_TIMEOUT,
}
_REFUSED: Final = frozenset({"missing_token", "wrong_token", "controls_closed"})


async def run(given: Any, server: URL, token: str, environ: Mapping[str, str], out: TextIO) -> int:
    """Carry out a command of `gpu`; returns the exit code."""
    command: str = given.gpu_command
    async with client.connected(server, token, environ, patience=0, silent_seconds=WAKE_SECONDS) as connected:
        try:
            if command == "status":
                answer = await connected.call("GET", names.PATH_STATE)
            else:
                answer = await connected.call("POST", PATHS[command], lambda: {"json": body(given)})
            said = (
                _status(server, answer, given.output)
                if command == "status"
                else _done(server, answer, given.output)
            )
        except ApiError as error:
            print(f"ocr-inference: {safe(redact(str(error)))}{_way_out(error)}", file=sys.stderr)
            return exits.USAGE if error.status in (401, 403, 404, 422) else exits.FAILED
    print(said, file=out, flush=True)
    return exits.OK


def body(given: Any) -> dict[str, Any]:
    """Return the fields of a control."""
    fields: dict[str, Any] = {}
    if given.model is not None:
        fields["model"] = given.model
    if given.gpu_command == "timeout":
        fields["timeout"] = given.seconds
    if getattr(given, "force", False):
        fields["force"] = True
    if fields and given.model is None and given.gpu_command != "load":
        fields["all"] = True
    return fields


def _status(server: URL, answer: bytes, output: str) -> str:
    found = state.parse(answer)
    if isinstance(found, Invalid):
        raise _strange(server)
    if output == "json":
        return _indented(answer)
    return "\n".join(table.lines(str(server).rstrip("/"), found, datetime.now(UTC)))


def _done(server: URL, answer: bytes, output: str) -> str:
    if output == "json":
        return _indented(answer)
    try:
        found = msgspec.json.decode(answer, type=dict[str, Any])
        said = (found["message"], found["model"], found["state"], found["model_location"])
    except (msgspec.DecodeError, KeyError, RecursionError):
        raise _strange(server) from None
    message, model, state_, location = (safe(str(each)) for each in said)
    where = state_ if state_ == location else f"{state_}, on {location}"
    return f"{message} ({model} is {where})"


def _indented(answer: bytes) -> str:
    return msgspec.json.format(answer, indent=2).decode(errors="replace")


def _strange(server: URL) -> ApiError:
    return ApiError(502, client.STRANGE, f"{server} answers with something else: is it an ocr-inference?")


def _way_out(error: ApiError) -> str:
    if error.code in _REFUSED and error.code != "controls_closed":
        return "; set OCR_ADMIN_TOKEN or --token-file"
    if error.code == client.UNREACHABLE:
        return "; start it by ocr-inference serve, or name another with --server"
    return ""
