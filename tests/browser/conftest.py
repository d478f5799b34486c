"""Fixtures of tests of the web page.

One browser and one server for as long as a worker runs tests of this folder, and no longer: the library that drives the
browser has an event loop of its own, beside which no other can run.
"""

import json
from collections.abc import Iterator
from typing import Final

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.support import browser as support
from tests.support.engines import Faults
from tests.support.patience import PATIENCE

GPU: Final = {"uuid": "GPU-1", "product": "NVIDIA-T4", "memory_bytes": 15_360 << 20}

expect.set_options(timeout=PATIENCE * 1000)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with support.chromium() as started:
        yield started


@pytest.fixture(scope="package")
def server(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[support.Server]:
    """The server of all tests; after the browser, so that nothing is started where there is none."""
    with support.serving(tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.fixture(scope="package")
def gpu_server(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[support.Server]:
    """Another one: a real engine on a simulated GPU."""
    folder = tmp_path_factory.mktemp("gpu-server")
    (folder / "gpus.json").write_text(json.dumps([GPU]))
    environ = {"OCR_DEVICE": "simulated", "OCR_SIMULATED_GPU_DIR": str(folder)}
    models = "models: [{name: pp-ocr, engine: rapidocr, gpuMemory: 6Gi}]"
    with support.serving(folder, models, **environ) as started:
        yield started


@pytest.fixture
def faults(server: support.Server) -> Iterator[Faults]:
    """Faults of the model `faulty`, for one test."""
    found = Faults(server.faults)
    found.set()
    yield found
    found.set()


@pytest.fixture
def context(browser: Browser, server: support.Server) -> Iterator[BrowserContext]:
    """An English desktop."""
    with browser.new_context(
        base_url=server.url, locale="en-GB", viewport={"width": 1280, "height": 800}
    ) as made:
        yield made


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """The web page, opened."""
    with support.page_of(context) as page:
        page.goto("/")
        page.get_by_role("heading", level=1).wait_for()
        yield page
