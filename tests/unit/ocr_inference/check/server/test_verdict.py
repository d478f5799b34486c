"""What is wrong with a server that runs, and with what stands before it."""

from typing import Any

import pytest
from msgspec import structs

from ocr_inference.check.server import command, verdict
from ocr_inference.check.server.facts import Body, Facts, Model, Page, Report

GOOD = Facts(
    url="https://ocr.example.com/",
    outside=True,
    certificate_days=60.0,
    version="1",
    device="cuda",
    product="NVIDIA L40S",
    models=(Model(name="m", state="ready", location="gpu"),),
    controls="token",
    reading="token",
    body=Body(nbytes=45_000_000, passes=True, answer="100 Continue"),
    first_event_seconds=0.01,
    page=Page(seconds=1.0),
)
REFUSED = Body(nbytes=45_000_000, passes=False, answer="413 Request Entity Too Large")


def test_a_good_server_has_no_findings() -> None:
    assert verdict.judge(GOOD) == ()


@pytest.mark.parametrize(
    ("change", "level", "says"),
    [
        ({"problem": "no answer: refused"}, "problem", "no answer"),
        ({"certificate_days": 3.0}, "warning", "ends in 3 days"),
        ({"certificate_days": None}, "warning", "no TLS"),
        ({"ready": "draining"}, "problem", "takes no requests: draining"),
        ({"controls": "open"}, "problem", "OCR_ADMIN_TOKEN_FILE"),
        ({"controls": "closed"}, "note", "no admin token"),
        ({"reading": "open"}, "warning", "OCR_API_KEYS_FILE"),
        ({"body": REFUSED}, "problem", "client_max_body_size"),
        ({"body": structs.replace(REFUSED, by_server=True)}, "note", "maxUploadBytes"),
        ({"body": structs.replace(REFUSED, passes=None)}, "warning", "isn't answered in time"),
        ({"first_event_seconds": None}, "problem", "doesn't come"),
        ({"first_event_seconds": 8.0}, "problem", "comes after 8.0 s"),
        (
            {"models": (Model(name="m", state="unloaded", location="unloaded", failure="no"),)},
            "warning",
            "m: no",
        ),
        ({"page": Page(seconds=60.0, problem="504")}, "problem", "504 (after 60.0 s)"),
    ],
)
def test_what_is_wrong_is_named_with_the_way_out(change: dict[str, Any], level: str, says: str) -> None:
    (found,) = verdict.judge(structs.replace(GOOD, **change))
    assert found.level == level
    assert says in found.message


@pytest.mark.parametrize("controls", ["open", "token"])
def test_a_server_that_this_machine_alone_reaches_needs_neither_tls_nor_tokens(controls: Any) -> None:
    local = structs.replace(GOOD, outside=False, certificate_days=None, controls=controls, reading="open")
    assert [each.level for each in verdict.judge(local)] == (["note"] if controls == "open" else [])


def test_people_read_a_line_a_subject() -> None:
    text = command.render(Report(ok=True, findings=(), facts=GOOD))
    assert text.splitlines() == [
        "https://ocr.example.com/",
        "",
        "tls       valid for 60 days",
        "server    1, ready",
        "device    cuda: NVIDIA L40S",
        "models    m: ready, gpu",
        "access    controls: token; reading: token",
        "body      42.9 MiB passes",
        "events    the first after 0.010 s",
        "page      read in 1.0 s",
        "",
        "This works.",
    ]
