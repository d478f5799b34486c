"""Servers of others: one that doesn't start is a reason, and what it started goes with it."""

import sys
from pathlib import Path

import pytest

from bench import others, server


async def test_a_server_that_ends_says_why(tmp_path: Path) -> None:
    command = (sys.executable, "-c", "raise SystemExit('no such model')")
    with pytest.raises(RuntimeError, match=r"ended with 1 before it answered: no such model"):
        async with others.started(command, {}, tmp_path, server.free_port(), 60):
            raise AssertionError("it never answered")


async def test_a_server_that_answers_is_yielded_and_ends(tmp_path: Path) -> None:
    port = server.free_port()
    command = (sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1")
    async with others.started(command, {}, tmp_path, port, 60) as (url, process):
        assert url == f"http://127.0.0.1:{port}"
        assert process.returncode is None
    assert process.returncode is not None
