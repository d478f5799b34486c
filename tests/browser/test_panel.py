"""The server's panel on a simulated GPU behind an admin token: what is true of the models, and what can be done.

All tests share one server; each opens the page anew.
"""

import json
import re
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.support import browser as support
from tests.support.engines import Faults

TOKEN = "admin-token-of-this-test"
MODELS = """
idle: {offloadAfterSeconds: 600, exitAfterSeconds: -1, releaseAfterSeconds: -1}
models:
  - {name: big, engine: fake, gpuMemory: 9Gi}
  - {name: faulty, engine: fake, gpuMemory: 1Gi, options: {faults_file: FAULTS}}
"""
GPU = {"uuid": "GPU-1", "product": "NVIDIA-L40S", "memory_bytes": 46_068 << 20}
KEYS = re.compile(r"\bpanel\.[a-z_.]+")


@dataclass(frozen=True)
class Gpu:
    """A server with a GPU."""

    url: str
    faults: Faults

    def send(self, method: str, path: str, body: dict[str, Any]) -> Any:
        """What another program sends, with the admin token."""
        request = urllib.request.Request(
            f"{self.url}{path}",
            data=json.dumps(body).encode(),
            method=method,
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"},
        )
        with urllib.request.urlopen(request) as response:
            return json.load(response)


@pytest.fixture(scope="module")
def running(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gpu]:
    folder = tmp_path_factory.mktemp("gpu")
    (folder / "gpus.json").write_text(json.dumps([GPU]))
    (folder / "token").write_text(f"{TOKEN}\n")
    environ = {
        "OCR_DEVICE": "simulated",
        "OCR_SIMULATED_GPU_DIR": str(folder),
        "OCR_ADMIN_TOKEN_FILE": str(folder / "token"),
    }
    with support.serving(folder, MODELS, **environ) as server:
        yield Gpu(server.url, Faults(folder))


@pytest.fixture
def gpu(running: Gpu) -> Gpu:
    """The same, with both models unloaded and the idle times that it begins with."""
    running.faults.set()
    running.send("POST", "/gpu/release", {"all": True, "force": True})
    running.send("POST", "/gpu/timeout", {"all": True, "timeout": 600})
    return running


@pytest.fixture
def page(browser: Browser, gpu: Gpu) -> Iterator[Page]:
    with (
        browser.new_context(
            base_url=gpu.url, locale="en-GB", viewport={"width": 1280, "height": 900}
        ) as context,
        support.page_of(context) as page,
    ):
        page.goto("/")
        yield page


def card(page: Page, model: str) -> Locator:
    return page.locator(".model").filter(has=page.get_by_role("heading", name=model, exact=True))


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def give_token(page: Page, token: str = TOKEN) -> None:
    dialog = page.get_by_role("dialog", name="Admin token")
    dialog.get_by_label("Admin token").fill(token)
    dialog.get_by_role("button", name="Use it").click()


def set_time(page: Page, seconds: str) -> None:
    page.get_by_label("Seconds").fill(seconds)
    press(page, "Set")


def test_the_admin_token_is_asked_for_and_never_stored(page: Page) -> None:
    press(page, "Wake big")
    dialog = page.get_by_role("dialog", name="Admin token")
    expect(dialog).to_contain_text("Wake big")
    expect(dialog.get_by_label("Admin token")).to_be_focused()
    give_token(page, "another one")
    expect(dialog.get_by_role("alert")).to_have_text("That isn't the admin token of this server.")
    expect(card(page, "big")).to_contain_text("Not loaded")

    give_token(page)
    expect(dialog).to_be_hidden()
    expect(card(page, "big")).to_contain_text("on the GPU")
    expect(page.get_by_role("button", name="Wake big")).to_be_focused()
    stored = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])"
    assert TOKEN not in page.evaluate(stored)
    assert TOKEN not in page.content()

    press(page, "Offload big")
    expect(card(page, "big")).to_contain_text("in host memory")
    press(page, "Forget it")
    press(page, "Release big")
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(card(page, "big")).to_contain_text("Offloaded")


def test_a_model_is_seen_on_the_gpu_and_seen_to_leave_it(page: Page, gpu: Gpu) -> None:
    panel = page.get_by_role("region", name="Server")
    expect(panel).to_contain_text("Simulated GPU: NVIDIA-L40S")
    plot = page.get_by_role("img", name="GPU memory")
    expect(plot).to_have_accessible_name(re.compile(r"now 0 B of 45 GiB, at most 0 B in the last 60 sec"))
    gpu.send("POST", "/gpu/load", {"model": "big"})
    expect(card(page, "big")).to_contain_text("Ready")
    expect(card(page, "big")).to_contain_text("9 GiB on the GPU, 64 KiB in host memory")
    expect(plot).to_have_accessible_name(re.compile(r"now 9 GiB of 45 GiB, at most 9 GiB"))
    expect(plot.locator("path.area")).to_have_attribute("d", re.compile(r"^M.*Z$"))

    timer = card(page, "big").get_by_role("timer")
    expect(timer).to_have_text(re.compile(r"^Offload in (10 min|9 min \d+ sec)$"))
    before = timer.inner_text()
    expect(timer).not_to_have_text(before)  # it ticks

    set_time(page, "0")
    give_token(page)
    expect(card(page, "big")).to_contain_text("in host memory")
    expect(page.get_by_role("log")).to_contain_text("Idle time of All models: at once")
    expect(plot).to_have_accessible_name(re.compile(r"now 0 B of 45 GiB, at most 9 GiB"))
    expect(card(page, "big")).to_contain_text("Stays: its idle time is “never”")
    expect(panel.get_by_role("status")).to_have_text("big: Offloaded, in host memory")
    press_summary(page, "Memory as a table")
    rows = page.get_by_role("table", name="Memory as a table").get_by_role("row")
    expect(rows.filter(has_text="9 GiB").first).to_be_visible()


def press_summary(page: Page, text: str) -> None:
    page.locator("summary", has_text=text).click()


def test_times_are_seconds_or_never_within_their_bounds(page: Page, gpu: Gpu) -> None:
    for typed in ("", "-1", "abc", "31536001", "1e3"):
        set_time(page, typed)
        expect(page.get_by_role("alert")).to_have_text(
            "Give seconds from 0 to 31,536,000, or tick “never”.", timeout=10_000
        )
        expect(page.get_by_label("Seconds")).to_have_attribute("aria-invalid", "true")
        expect(page.get_by_label("Seconds")).to_be_focused()
    gpu.send("POST", "/gpu/load", {"model": "big"})
    timeouts = page.get_by_role("group", name="Idle time until offload")
    timeouts.get_by_role("combobox", name="For").select_option("big")
    page.get_by_label("never").check()
    expect(page.get_by_label("Seconds")).to_be_disabled()
    press(page, "Set")
    give_token(page)
    expect(card(page, "big")).to_contain_text("Stays: its idle time is “never”")
    expect(timeouts).to_contain_text("big: never; faulty: 10 min")
    expect(timeouts).to_contain_text("Set at this server for: big, faulty.")
    page.get_by_label("never").uncheck()
    set_time(page, "2.5")
    expect(timeouts).to_contain_text("big: 2.5 sec; faulty: 10 min")


def test_it_says_for_whom_a_time_counts_that_is_set_here(page: Page, gpu: Gpu) -> None:
    timeouts = page.get_by_role("group", name="Idle time until offload")
    expect(timeouts).to_contain_text("counts at once, until the server ends")
    page.get_by_label("Seconds").fill("5")
    values = {"idle": {"offloadAfterSeconds": 77}, "models": {"big": {"preload": True}}}
    gpu.send("PUT", "/v1/settings", {"generation": 1, "revision": 1, "values": values})
    expect(timeouts).to_contain_text("Now: 77 sec")
    expect(timeouts).to_contain_text("declared by another program (revision 1)")
    expect(timeouts).not_to_contain_text("Set at this server")
    expect(page.get_by_label("Seconds")).to_have_value("5")  # what was typed stays
    expect(card(page, "big")).to_contain_text("Stays: it is preloaded")
    pod = {
        "pod": {"name": "invoices-7c9-abc"},
        "settings": {"revision": 7},
        "local_timeouts": [],
        "models": [],
    }
    assert "kubectl ocr timeout" in page.evaluate(
        "state => import('/ui/panel/timeout.js').then(module => module.scope(state))", pod
    )

    values = {"idle": {"offloadAfterSeconds": -1, "exitAfterSeconds": 90}}
    gpu.send("PUT", "/v1/settings", {"generation": 1, "revision": 2, "values": values})
    expect(timeouts).to_contain_text(
        "Off the GPU sooner, when the process ends (exitAfterSeconds): big after 90 sec, faulty after 90 sec."
    )
    gpu.send("PUT", "/v1/settings", {"generation": 1, "revision": 3, "values": {}})


def test_failures_and_work_are_told(page: Page, gpu: Gpu) -> None:
    gpu.faults.set(load="fail")
    press(page, "Wake faulty")
    give_token(page)
    expect(page.get_by_role("log")).to_contain_text("Wake faulty:")
    expect(card(page, "faulty")).to_contain_text("The last try failed")
    gpu.faults.set(load="hold")
    press(page, "Wake faulty")
    expect(card(page, "faulty")).to_contain_text("Loading")
    busy = page.get_by_role("button", name="Wake faulty")
    expect(busy).to_have_attribute("aria-busy", "true")
    expect(card(page, "faulty")).to_contain_text("Pages being read: 0. Waiting: 1.")
    gpu.faults.set()
    expect(card(page, "faulty")).to_contain_text("Ready")
    expect(busy).not_to_have_attribute("aria-busy", "true")


def test_a_lost_connection_is_told_and_comes_back(page: Page, gpu: Gpu) -> None:
    gpu.send("POST", "/gpu/load", {"model": "big"})
    expect(card(page, "big").get_by_role("timer")).to_be_visible()
    page.context.set_offline(True)
    expect(page.get_by_role("region", name="Server")).to_contain_text("No connection. This is what was known")
    expect(card(page, "big").get_by_role("timer")).to_be_hidden()
    expect(page.get_by_role("button", name="Offload big")).to_have_attribute("aria-disabled", "true")
    page.context.set_offline(False)
    expect(card(page, "big").get_by_role("timer")).to_be_visible()
    expect(page.get_by_role("region", name="Server")).not_to_contain_text("No connection")


def test_the_panel_speaks_each_language(page: Page, gpu: Gpu) -> None:
    gpu.send("POST", "/gpu/load", {"model": "big"})
    for language, words in (
        ("zh-CN", "空闲多久后卸出"),
        ("zh-TW", "閒置多久後移出"),
        ("ja", "退避までのアイドル時間"),
        ("en", "Idle time until offload"),
    ):
        page.locator("header select").select_option(language)
        expect(page.get_by_role("group", name=words)).to_be_visible()
        shown = page.locator("#panel").inner_text()
        assert not KEYS.search(shown), shown


def test_without_a_gpu_there_is_only_the_hosts_memory(browser: Browser, server: support.Server) -> None:
    with (
        browser.new_context(base_url=server.url, locale="en-GB") as context,
        support.page_of(context) as page,
    ):
        page.goto("/")
        expect(page.get_by_role("region", name="Server")).to_contain_text("CPU only, no GPU")
        press(page, "Wake quick")
        expect(card(page, "quick")).to_contain_text("Ready")
        expect(card(page, "quick")).to_contain_text("128 KiB in host memory")
        expect(page.get_by_role("img", name="Host memory")).to_be_visible()
        expect(page.get_by_role("img", name="GPU memory")).to_have_count(0)
        press(page, "Release quick")
        expect(card(page, "quick")).to_contain_text("not in memory")
