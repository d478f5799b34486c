"""The command that serves, in this process: what it does with garbage collection is over when it ends."""

import asyncio
import gc
import signal
import sys

from ocr_inference.cli import serving
from ocr_inference.config import parsing
from ocr_inference.config.settings import Settings
from ocr_wire import garbage
from tests.support.stage import until


async def test_what_is_there_when_it_serves_is_exempt_from_garbage_collection() -> None:
    before, interval = gc.get_threshold(), sys.getswitchinterval()
    config = parsing.parse_config('models: [{"name": "m", "engine": "fake"}]')
    task = asyncio.create_task(serving.serve(Settings(host="127.0.0.1", port=0), config, {}))
    try:
        await until(lambda: task.done() or gc.get_threshold()[0] == garbage.YOUNG)
        assert gc.get_freeze_count() > 0
        signal.raise_signal(signal.SIGTERM)
        assert await task == 0
        assert gc.get_threshold() == before
        assert gc.get_freeze_count() == 0
    finally:
        sys.setswitchinterval(interval)
