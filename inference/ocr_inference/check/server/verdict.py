"""Judges what was found of a running server. Pure."""

from collections.abc import Iterator
from typing import Final

from ocr_inference.check.facts import Finding
from ocr_inference.check.server.facts import Facts
from ocr_inference.check.verdict import size

FEW_DAYS: Final = 14.0
"""Days before its end at which a certificate should have been renewed: Let's Encrypt's are renewed 30 days before."""
LATE_SECONDS: Final = 3.0
"""Time after which an event is late: it is sent at once."""


def judge(facts: Facts) -> tuple[Finding, ...]:
    """Return the findings, problems first."""
    if facts.problem is not None:
        return (Finding("problem", "url", facts.problem),)
    found = [*_way(facts), *_access(facts), *_server(facts)]
    order = ("problem", "warning", "note")
    return tuple(sorted(found, key=lambda each: order.index(each.level)))


def _way(facts: Facts) -> Iterator[Finding]:
    days = facts.certificate_days
    if days is not None and days < FEW_DAYS:
        yield Finding("warning", "certificate", f"the certificate ends in {days:.0f} days: renew it")
    if days is None and facts.outside:
        yield Finding("warning", "url", "no TLS: pages and tokens are read on the way; put a proxy before it")
    body = facts.body
    if body is not None and body.passes is False:
        what = f"an upload of {size(body.nbytes)} is refused: {body.answer}"
        way_out = (
            "raise maxUploadBytes, if pages are so large"
            if body.by_server
            else "not by the server: raise the limit of what stands before it (nginx: client_max_body_size 80m)"
        )
        yield Finding("note" if body.by_server else "problem", "body", f"{what}; {way_out}")
    if body is not None and body.passes is None:
        yield Finding("warning", "body", f"an upload of {size(body.nbytes)} isn't answered in time")
    seconds = facts.first_event_seconds
    if seconds is None or seconds > LATE_SECONDS:
        came = "doesn't come" if seconds is None else f"comes after {seconds:.1f} s"
        message = (
            f"the first event of the state {came}: something before the server keeps its answers back until they"
            " end, so progress and streamed answers stand still (nginx: proxy_buffering off)"
        )
        yield Finding("problem", "first_event_seconds", message)


def _access(facts: Facts) -> Iterator[Finding]:
    if facts.controls == "open":
        message = "controls are open: whoever reaches it may unload models; set OCR_ADMIN_TOKEN_FILE"
        yield Finding("problem" if facts.outside else "note", "controls", message)
    if facts.controls == "closed":
        yield Finding(
            "note", "controls", "controls are closed: no admin token is configured, or its file is empty"
        )
    if facts.reading == "open" and facts.outside:
        message = "pages are read for whoever reaches it; set OCR_API_KEYS_FILE"
        yield Finding("warning", "reading", message)


def _server(facts: Facts) -> Iterator[Finding]:
    if facts.ready is not None:
        yield Finding("problem", "ready", f"it takes no requests: {facts.ready}")
    for model in facts.models:
        if model.failure is not None:
            yield Finding("warning", "models", f"model {model.name}: {model.failure}")
    page = facts.page
    if page is not None and page.problem is not None:
        after = f"after {page.seconds:.1f} s"
        yield Finding("problem", "page", f"a page isn't read: {page.problem} ({after})")
