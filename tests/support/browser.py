"""The web page in a real Chromium: one browser and one server for all tests of a worker, a fresh context for each test.

Without Chromium these tests are skipped on a developer's machine, and fail in CI: `make browser` installs it.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from tests.support.patience import PATIENCE

NO_BROWSER: Final = "no Chromium on this machine: `make browser` installs it where apt and root are"
FLAGS: Final = (
    "--no-sandbox",  # tests run as root in CI
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    # Nothing that asks the outside for anything.
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-color-profile=srgb",
)
MODELS: Final = """
models:
  - {name: pp-ocr, engine: rapidocr}
  - {name: quick, engine: fake}
  - {name: slow, engine: fake, options: {infer_seconds: 0.5}}
  - {name: faulty, engine: fake, options: {faults_file: FAULTS}}
"""
"""`faulty` does what the file of `Server.faults` says (`tests.support.engines.Faults`)."""


@dataclass(frozen=True)
class Server:
    url: str
    faults: Path
    """Folder of the faults file."""


def executable() -> str:
    """Chromium's path; skips, or fails in CI, where there is none."""
    found = shutil.which("chromium")
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(NO_BROWSER)
    assert found is not None
    return found


@contextmanager
def chromium() -> Iterator[Browser]:
    path = executable()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def serving(folder: Path, models: str = MODELS, **environ: str) -> Iterator[Server]:
    """The real command with these models; its log is in `server.log` of the folder."""
    config, log = folder / "config.yaml", folder / "server.log"
    config.write_text(models.replace("FAULTS", str(folder / "faults.json")))
    with open(log, "wb") as errors:
        process = subprocess.Popen(
            (sys.executable, "-m", "ocr_inference", "serve", "--config", str(config)),
            env={**os.environ, "OCR_HOST": "127.0.0.1", "PORT": "0", "OCR_DEVICE": "cpu", **environ},
            stderr=subprocess.PIPE,
        )
        assert process.stderr is not None
        try:
            for line in process.stderr:
                errors.write(line)
                if found := re.search(rb" serving url=(\S+) .*device=\S+ models=", line):
                    break
            else:
                raise AssertionError(f"the server ended before it served: {log.read_text()}")
            # Read on, so that the server never waits for its log to be read.
            with subprocess.Popen(("cat",), stdin=process.stderr, stdout=errors):
                try:
                    yield Server(found[1].decode(), folder)
                finally:
                    process.terminate()
                    process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()
            process.stderr.close()


@dataclass
class Watched:
    """What a page said while a test ran: a fault of ours unless the test expects it."""

    page: Page
    said: list[str] = field(default_factory=list)

    def note(self, message: ConsoleMessage) -> None:
        # A refused request is the server's answer, which the page shows; the browser says it here, too.
        if message.type in {"error", "warning"} and "Failed to load resource" not in message.text:
            self.said.append(message.text)


@contextmanager
def page_of(context: BrowserContext) -> Iterator[Page]:
    """A page that fails its test by any error that nobody caught, and by anything that the policy (CSP) stopped."""
    page = context.new_page()
    page.set_default_timeout(PATIENCE * 1000)
    watched = Watched(page)
    page.on("console", watched.note)
    page.on("pageerror", lambda error: watched.said.append(str(error)))
    yield page
    assert not watched.said, watched.said
