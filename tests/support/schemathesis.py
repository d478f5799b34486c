"""Schemathesis against a server that runs: requests that the OpenAPI document allows, and others."""

import asyncio
import sys
from pathlib import Path

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
SETTINGS = "/v1/settings"
"""Declared settings change what other calls answer, such as with a deadline of a microsecond, so they get a run of
their own."""


async def run(url: str, folder: Path, *arguments: str) -> str:
    """Send requests to the server; returns what was found, empty where nothing was. What it keeps goes into the
    folder."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"),
        *("--checks", CHECKS, "--no-color", "--seed", "1", "--request-timeout", "60"),
        *arguments,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return output.decode() if process.returncode else ""
