"""Carries out `ocr-inference check --server`: asks, judges, prints, and returns the exit code."""

from collections.abc import Callable, Iterator
from typing import TextIO

import msgspec
from yarl import URL

from ocr_inference.check.server import asking, verdict
from ocr_inference.check.server.facts import Facts, Report
from ocr_inference.check.verdict import size
from ocr_inference.check.words import WIDTH


def run(
    url: URL, token: str, *, reads_page: bool, as_json: bool, out: TextIO, redact: Callable[[str], str]
) -> int:
    """Check and print; returns 0 where there is no problem, else 1."""
    facts = asking.read(url, token, reads_page=reads_page)
    findings = verdict.judge(facts)
    ok = all(each.level != "problem" for each in findings)
    report = Report(ok=ok, findings=findings, facts=facts)
    text = (
        msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n"
        if as_json
        else render(report)
    )
    out.write(redact(text))
    out.flush()
    return 0 if ok else 1


def render(report: Report) -> str:
    """Return the text for people: one line a subject, then the findings, then what follows."""
    lines = [report.facts.url, ""]
    lines += [f"{subject:{WIDTH}} {words}" for subject, words in _lines(report.facts)]
    if report.findings:
        lines.append("")
        lines += [f"{each.level:{WIDTH}} {each.message}" for each in report.findings]
    problems = sum(each.level == "problem" for each in report.findings)
    end = "This works." if report.ok else f"This doesn't work: {problems} problem{'s' * (problems > 1)}."
    return "\n".join([*lines, "", end, ""])


def _lines(facts: Facts) -> Iterator[tuple[str, str]]:
    if facts.problem is not None:
        return
    days = facts.certificate_days
    yield "tls", "none" if days is None else f"valid for {days:.0f} days"
    yield "server", f"{facts.version}, {'ready' if facts.ready is None else 'not ready'}"
    yield "device", facts.device if facts.product is None else f"{facts.device}: {facts.product}"
    for model in facts.models:
        yield "models", f"{model.name}: {model.state}, {model.location}"
    yield "access", f"controls: {facts.controls}; reading: {facts.reading}"
    if (body := facts.body) is not None:
        words = {True: "passes", False: "is refused", None: "isn't answered"}[body.passes]
        yield "body", f"{size(body.nbytes)} {words}"
    if facts.first_event_seconds is not None:
        yield "events", f"the first after {facts.first_event_seconds:.3f} s"
    if facts.page is not None:
        yield "page", f"{'read' if facts.page.problem is None else 'not read'} in {facts.page.seconds:.1f} s"
