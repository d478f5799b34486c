"""Modules of the panel that only decide: values in, values out, in the browser that they run in."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.support import browser as support

GIB = 1 << 30
IDLE = {"offload_after_seconds": 60, "exit_after_seconds": 300, "release_after_seconds": 1800}
READY = {
    "state": "ready", "idle": IDLE, "in_flight": 0, "waiting": 0, "idle_since": "2026-11-29T01:00:00Z",
    "preloaded": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def page(browser: Browser, server: support.Server) -> Iterator[Page]:
    with browser.new_context(base_url=server.url) as context, support.page_of(context) as page:
        page.goto("/")
        yield page


def call(page: Page, module: str, function: str, *arguments: Any) -> Any:
    """Call an exported function."""
    script = "([path, name, values]) => import(path).then(module => module[name](...values))"
    return page.evaluate(script, [f"/ui/panel/{module}.js", function, list(arguments)])


@pytest.mark.parametrize(
    ("changes", "idle", "kind", "after"),
    [
        ({}, {}, "offload", 60),
        ({}, {"offload_after_seconds": -1}, "offload", 300),  # with its process
        ({}, {"offload_after_seconds": -1, "exit_after_seconds": -1}, "unload", 1800),
        ({}, {"release_after_seconds": 0}, "unload", 0),
        ({}, {"offload_after_seconds": 0}, "offload", 0),
        ({}, dict.fromkeys(IDLE, -1), "never", math.inf),
        ({"preloaded": True}, {}, "preloaded", math.inf),
        ({"in_flight": 1, "idle_since": None}, {}, "busy", math.inf),
        ({"waiting": 1, "idle_since": None}, {}, "busy", math.inf),
        ({"state": "offloaded"}, {}, "unload", 1800),
        ({"state": "offloaded"}, {"release_after_seconds": -1}, "never", math.inf),
        ({"state": "restoring"}, {}, "none", math.inf),
        ({"state": "hibernating"}, {}, "none", math.inf),
    ],
)
def test_what_an_idle_model_does_next(
    page: Page, changes: dict[str, Any], idle: dict[str, Any], kind: str, after: float
) -> None:
    found = call(page, "countdown", "next", {**READY, **changes, "idle": {**IDLE, **idle}})
    assert found == {"kind": kind, "after": after}


def test_models_that_leave_with_their_process_are_named(page: Page) -> None:
    def model(**idle: float) -> dict[str, Any]:
        return {**READY, "name": "each", "idle": {**IDLE, **idle}}

    assert call(page, "countdown", "sooner", [model(), model(offload_after_seconds=300)]) == []
    assert call(page, "countdown", "sooner", [model(offload_after_seconds=-1)]) == [
        {"name": "each", "after": 300}
    ]
    never = model(offload_after_seconds=-1, exit_after_seconds=-1)
    assert (
        call(page, "countdown", "sooner", [never, {**model(offload_after_seconds=999), "preloaded": True}])
        == []
    )


def test_an_older_server_has_no_countdown(page: Page) -> None:
    without = {name: value for name, value in READY.items() if name != "idle"}
    assert call(page, "countdown", "next", without)["kind"] == "none"


def test_the_countdown_begins_with_the_servers_own_count(page: Page) -> None:
    since = READY["idle_since"]
    anchor = {"since": since, "idle": 17.5, "at": 1000.0}
    leaves = {"kind": "offload", "after": 60}
    assert call(page, "countdown", "remaining", leaves, since, anchor, 1000.0) == 43
    assert call(page, "countdown", "remaining", leaves, since, anchor, 1042.4) == 1
    assert call(page, "countdown", "remaining", leaves, since, anchor, 2000.0) == 0
    assert call(page, "countdown", "remaining", leaves, "2026-11-29T02:00:00Z", anchor, 1000.0) is None
    assert (
        call(page, "countdown", "remaining", {"kind": "never", "after": math.inf}, since, anchor, 1.0) is None
    )


@pytest.mark.parametrize(
    ("typed", "seconds"),
    [("0", 0), (" 60 ", 60), ("2.5", 2.5), ("2,5", 2.5), ("31536000", 31_536_000), ("31536000.1", None)]
    + [(typed, None) for typed in ("", "-1", "-0.5", "1e3", "0x10", "6 0", "NaN", "Infinity", "1.", "٣")],
)
def test_typed_seconds_are_those_that_the_server_takes(page: Page, typed: str, seconds: float | None) -> None:
    assert call(page, "countdown", "parseSeconds", typed) == seconds


def state(kind: str = "cuda", *, own: int = 0, whole: int | None = None, host: int = 0) -> dict[str, Any]:
    gpu = None if whole is None else {"memory_used_bytes": whole}
    device = {"kind": kind, "memory_used_bytes": own, "memory_total_bytes": 24 * GIB, "gpu": gpu}
    return {"device": device, "models": [{"memory_bytes": own, "host_bytes": host}]}


def test_samples_say_what_is_known(page: Page) -> None:
    found = call(page, "memory", "sampleOf", state(own=2 * GIB, whole=3 * GIB, host=GIB), 5)
    assert found == {"at": 5, "own": 2 * GIB, "whole": 3 * GIB, "total": 24 * GIB, "host": GIB}
    assert call(page, "memory", "sampleOf", state(own=2 * GIB, whole=GIB), 5)["whole"] == 2 * GIB
    assert call(page, "memory", "sampleOf", state(own=2 * GIB), 5)["whole"] is None
    found = call(page, "memory", "sampleOf", state("cpu", own=GIB, host=GIB), 5)
    assert found == {"at": 5, "own": None, "whole": None, "total": None, "host": 2 * GIB}


def test_samples_are_changes_within_the_window(page: Page) -> None:
    script = """() => import('/ui/panel/memory.js').then(({added, most, span, MOST_SAMPLES}) => {
        const at = (at, own) => ({at, own, whole: null, total: 10, host: 0});
        let few = [];
        for (const each of [[0, 9], [10, 9], [20, 3], [600, 4], [615, 4], [621, 5]]) few = added(few, at(...each));
        let many = [];
        for (let each = 0; each < 3 * MOST_SAMPLES; each += 1) many = added(many, at(each / 1000, each));
        return [few.map(each => [each.at, each.own]), most(few, 'own'), most(few, 'whole'), span(few, 621), span([], 5),
                many.length === MOST_SAMPLES, many.at(-1).own === 3 * MOST_SAMPLES - 1];
    })"""
    assert page.evaluate(script) == [[[20, 3], [600, 4], [621, 5]], 5, None, 600, 60, True, True]


def test_lines_are_steps_and_break_where_nothing_is_known(page: Page) -> None:
    frame = {"from": 0, "to": 100, "top": 10, "width": 100, "height": 40}
    samples = [
        {"at": -50, "own": 0, "whole": 5, "host": None},
        {"at": 50, "own": 10, "whole": None, "host": None},
        {"at": 75, "own": 99, "whole": 10, "host": None},
    ]
    assert call(page, "plot", "line", samples, "own", frame) == "M0 40H50V40H50V0H75V0H75V0H100V0"
    assert call(page, "plot", "line", samples, "whole", frame) == "M0 20H50V20M75 0H100V0"
    assert call(page, "plot", "area", samples, "whole", frame) == "M0 40H0V20H50V20V40ZM75 40H75V0H100V0V40Z"
    assert call(page, "plot", "line", samples, "host", frame) == ""
    assert call(page, "plot", "line", [], "own", frame) == ""


def test_amounts_are_written_as_people_read_them(page: Page) -> None:
    def times(language: str) -> list[str]:
        return [
            call(page, "amounts", "duration", each, language) for each in (0, 0.5, 42, 245, 7260, 31_536_000)
        ]

    assert times("en") == ["0 sec", "0.5 sec", "42 sec", "4 min 5 sec", "2 hr 1 min", "365 days"]
    assert times("zh-CN") == ["0秒", "0.5秒", "42秒", "4分钟 5秒", "2小时 1分钟", "365天"]
    sizes = [
        call(page, "amounts", "bytes", each, "en") for each in (0, 1023, 1 << 20, 1.5 * GIB, 46_068 << 20)
    ]
    assert sizes == ["0 B", "1,023 B", "1 MiB", "1.5 GiB", "45 GiB"]
