"""Memory of a server that gets more large pages at once than it has memory for; the long form is
`make bench ONLY=bodies`."""

import asyncio

import pytest

from bench import bodies
from bench.uploader import Load
from tests.support.patience import PATIENCE

MIB = 1 << 20
PAGE = 8 * MIB
CLIENTS = 16
BUDGET = 24
"""MiB."""
BUFFERS = 16
"""MiB for what connections and the allocator hold. All the pages at once would be 128."""


@pytest.mark.parametrize("dialect", bodies.DIALECTS)
async def test_a_crowd_of_large_pages_takes_no_more_than_the_budget_and_leaves_nothing(dialect: str) -> None:
    async with bodies.served(
        {"infer_seconds": 0.1},
        {"OCR_UPLOAD_MEMORY": f"{BUDGET}Mi"},
        queue={"limit": 4},
        server={"limits": {"maxUploadBytes": PAGE}},
    ) as (port, pid):
        before = bodies.own(pid)
        async with asyncio.timeout(PATIENCE):
            seen = await bodies.watch(pid, Load(port, CLIENTS, PAGE, dialect))
        assert bodies.others(seen.statuses, "200", "429") == 0, seen.statuses
        assert seen.statuses["200"] > 0
        assert max(seen.total) - before < (BUDGET + BUFFERS) * MIB
        assert bodies.held(pid) == 0
        assert bodies.own(pid) - before < BUFFERS * MIB
