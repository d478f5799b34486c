"""Which page of which job is begun next, and what is kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ocr_inference.jobs import table
from ocr_inference.jobs.job import ENDED, Job, JobState
from ocr_inference.jobs.table import (
    MAX_EXPIRED,
    TURN_PAGES,
    TURN_SECONDS,
    BeginPage,
    DropDocument,
    DropResults,
    JobsFull,
    JobTable,
    Limits,
    Stop,
)
from ocr_wire.errors import ErrorInfo

MODEL = "m"
LIMITS = Limits()


def job(name: str, pages: int = 1, size: int = 1, model: str = MODEL) -> Job:
    return Job(id=name, model=model, pages=pages, document_bytes=size, submitted=0.0)


def submitted(*jobs: Job, limits: Limits = LIMITS) -> JobTable:
    state = JobTable(limits)
    for each in jobs:
        state, _ = table.submit(state, each, 0.0)
    return state


def begun(state: JobTable, window: int, now: float = 0.0) -> tuple[JobTable, list[tuple[str, int]]]:
    """The table after all pages that the window allows, and which these are."""
    state, effects = table.begin_pages(state, {MODEL: window}, now)
    return state, [(each.job, each.position) for each in effects if isinstance(each, BeginPage)]


def read(state: JobTable, name: str, size: int = 1, now: float = 0.0) -> JobTable:
    return table.end_page(state, name, size, now, read=True)[0]


def finished(state: JobTable, name: str, size: int = 1, now: float = 0.0) -> JobTable:
    """The table after all pages of a job were read, alone."""
    while state.jobs[name].is_unfinished:
        state, pages = begun(state, 1, now)
        assert [each for each, _ in pages] == [name]
        state = read(state, name, size, now)
    return state


def test_pages_are_begun_in_order_and_no_more_than_the_window() -> None:
    state, pages = begun(submitted(job("a", 5)), 2)
    assert pages == [("a", 0), ("a", 1)]
    state, pages = begun(state, 2)
    assert pages == []
    state, pages = begun(read(state, "a"), 2)
    assert pages == [("a", 2)]


def test_a_window_of_one_model_leaves_others_alone() -> None:
    state = submitted(job("a", 2), job("b", 2, model="other"))
    state, effects = table.begin_pages(state, {"other": 1}, 0.0)
    assert [each.job for each in effects if isinstance(each, BeginPage)] == ["b"]
    assert state.reading(MODEL) == 0


def test_a_job_is_done_when_each_page_has_ended_well_or_badly() -> None:
    state, _ = begun(submitted(job("a", 2)), 2)
    state = read(state, "a")
    assert state.jobs["a"].state is JobState.RUNNING
    state, effects = table.end_page(state, "a", 1, 5.0, read=False)
    ended = state.jobs["a"]
    assert (ended.state, ended.read, ended.failed, ended.ended) == (JobState.DONE, 1, 1, 5.0)
    assert effects == (Stop("a"),)


def test_a_turn_passes_on_after_its_time_where_others_wait() -> None:
    state, _ = begun(submitted(job("long", 100), job("short", 1)), 1)
    state, pages = begun(read(state, "long"), 1, TURN_SECONDS - 0.1)
    assert pages == [("long", 1)]
    state, pages = begun(read(state, "long"), 1, TURN_SECONDS)
    assert pages == [("long", 2)]  # known as the last of the turn, so that the document is closed behind it
    state, pages = begun(read(state, "long"), 1, TURN_SECONDS)
    assert pages == [("short", 0)]
    state, pages = begun(read(state, "short"), 1, TURN_SECONDS)
    assert pages == [("long", 3)]


def test_a_lone_job_keeps_its_turn_until_its_renderer_is_old() -> None:
    state = submitted(job("a", TURN_PAGES + 1))
    state, effects = table.begin_pages(state, {MODEL: TURN_PAGES + 1}, 1e6)
    ends = [each.position for each in effects if isinstance(each, BeginPage) and each.ends_turn]
    assert ends == [TURN_PAGES - 1, TURN_PAGES]


def test_queued_ahead_counts_the_turns_before() -> None:
    state, _ = begun(submitted(job("a", 9), job("b"), job("c")), 1)
    assert [state.queued_ahead(each) for each in state.jobs.values()] == [None, 1, 2]


def test_a_cancelled_job_keeps_what_was_read_and_begins_nothing() -> None:
    state, _ = begun(submitted(job("a", 9), job("b")), 2)
    state = read(state, "a")
    state, effects = table.cancel(state, "a", 1.0)
    assert effects == (Stop("a"),)
    assert (state.jobs["a"].state, state.jobs["a"].read) == (JobState.CANCELLED, 1)
    assert begun(state, 9)[1] == [("b", 0)]
    assert read(state, "a") == state  # a page that ends behind it is nothing


def test_a_job_that_has_ended_goes_with_its_results_when_it_is_cancelled() -> None:
    state = finished(submitted(job("a")), "a")
    state, effects = table.cancel(state, "a", 1.0)
    assert effects == (DropResults("a"),)
    assert (state.jobs["a"].state, state.used_bytes) == (JobState.EXPIRED, 0)
    assert table.cancel(state, "a", 1.0)[0] == state


def test_a_failed_job_says_why_and_keeps_what_was_read() -> None:
    state, _ = begun(submitted(job("a", 9)), 2)
    why = ErrorInfo(message="no model")
    state, effects = table.fail(read(state, "a"), "a", why, 1.0)
    assert (state.jobs["a"].state, state.jobs["a"].failure, state.jobs["a"].read) == (JobState.FAILED, why, 1)
    assert effects == (Stop("a"),)


def test_results_expire_by_age() -> None:
    state = finished(submitted(job("a"), limits=Limits(keep_seconds=60.0)), "a", now=5.0)
    assert state.next_expiry() == 65.0
    assert table.expire(state, 64.9)[1] == ()
    state, effects = table.expire(state, 65.0)
    assert effects == (DropResults("a"),)
    assert (state.jobs["a"].state, state.next_expiry()) == (JobState.EXPIRED, None)


def test_results_expire_by_number_oldest_first() -> None:
    state = submitted(*(job(name) for name in "abc"), limits=Limits(ended=2))
    for at, name in enumerate("abc"):
        state = finished(state, name, now=float(at))
    assert [each.state for each in state.jobs.values()] == [JobState.EXPIRED, JobState.DONE, JobState.DONE]


def test_a_new_document_takes_the_place_of_old_results_and_not_of_documents() -> None:
    state = submitted(job("a"), limits=Limits(memory_bytes=100))
    state = finished(state, "a", size=60)
    state, effects = table.submit(state, job("b", size=50), 1.0)
    assert effects == (DropResults("a"),)
    with pytest.raises(JobsFull, match="50 of 100 bytes, and this document has 51"):
        table.submit(state, job("c", size=51), 1.0)


def test_documents_of_ended_jobs_go_before_their_results() -> None:
    state = submitted(job("a", size=30), job("b", size=30), limits=Limits(memory_bytes=100))
    state = finished(finished(state, "a", size=10), "b", size=10, now=1.0)
    state, effects = table.submit(state, job("c", size=20), 1.0)
    assert effects == ()
    state, effects = table.submit(state, job("d", size=31), 1.0)
    assert effects == (DropDocument("a"), DropDocument("b"))
    state, effects = table.submit(state, job("e", size=40), 1.0)
    assert effects == (DropResults("a"), DropResults("b"))
    assert [each.document_bytes for each in state.jobs.values()] == [0, 0, 20, 31, 40]


def test_results_are_not_dropped_for_what_does_not_fit_then_either() -> None:
    state = finished(submitted(job("a"), limits=Limits(memory_bytes=100)), "a", size=60)
    with pytest.raises(JobsFull):
        table.submit(state, job("b", size=101), 1.0)


def test_too_many_unfinished_jobs_are_refused() -> None:
    state = submitted(job("a"), job("b"), limits=Limits(unfinished=2))
    with pytest.raises(JobsFull, match="2 jobs"):
        table.submit(state, job("c"), 0.0)
    assert table.submit(finished(state, "a"), job("c"), 0.0)[0].jobs["c"].state is JobState.QUEUED


def test_a_job_whose_results_do_not_fit_fails() -> None:
    state, _ = begun(submitted(job("a", 9, size=50), limits=Limits(memory_bytes=100)), 2)
    state = read(state, "a", 50)
    state, effects = table.end_page(state, "a", 1, 0.0, read=True)
    assert state.jobs["a"].state is JobState.FAILED
    assert state.jobs["a"].failure is not None
    assert (state.jobs["a"].failure.code, state.jobs["a"].read) == ("results_too_large", 1)
    assert effects == (Stop("a"),)


def test_expired_jobs_are_forgotten_beyond_a_number() -> None:
    state = JobTable()
    for number in range(MAX_EXPIRED + 2):
        state, _ = table.submit(state, job(f"j{number}"), 0.0)
        state, _ = table.cancel(state, f"j{number}", 0.0)
        state, _ = table.cancel(state, f"j{number}", 0.0)
    assert len(state.jobs) == MAX_EXPIRED
    assert next(iter(state.jobs)) == "j2"


def test_the_rate_follows_the_last_pages() -> None:
    state = submitted(job("a", 100))
    for now in range(1, 21):
        state, _ = begun(state, 1, float(now))
        state = read(state, "a", now=now + 1.0)
    each = state.jobs["a"]
    assert each.pages_per_second == pytest.approx(1.0)
    assert each.estimated_end == pytest.approx(21.0 + 80)


@given(st.lists(st.integers(1, 40), min_size=2, max_size=5), st.integers(1, 4), st.floats(0.01, 5.0))
def test_every_job_gets_on_whatever_the_others_length(
    pages: list[int], window: int, seconds_a_page: float
) -> None:
    """Between two pages of a job, each other one gets a turn at most."""
    state, now = submitted(*(job(f"j{number}", count) for number, count in enumerate(pages))), 0.0
    last = dict.fromkeys(state.jobs, 0.0)
    most = len(pages) * (TURN_SECONDS + (window + 1) * seconds_a_page)
    while any(each.is_unfinished for each in state.jobs.values()):
        state, given_pages = begun(state, window, now)
        for name, _ in given_pages:
            assert now - last[name] <= most
            last[name] = now
        now += seconds_a_page
        reading = next(name for name, each in state.jobs.items() if each.reading)
        state = read(state, reading, now=now)
    assert [each.read for each in state.jobs.values()] == pages


class Anything(RuleBasedStateMachine):
    """Whatever happens in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        self.state = JobTable(Limits(unfinished=4, ended=3, memory_bytes=200, keep_seconds=50.0))
        self.now = 0.0
        self.number = 0
        self.begun: set[tuple[str, int]] = set()
        self.kept: set[str] = set()
        """Jobs with results that weren't dropped."""

    def become(self, decided: tuple[JobTable, tuple[table.Effect, ...]]) -> None:
        self.state, effects = decided
        for effect in effects:
            match effect:
                case BeginPage(name, position):
                    assert (name, position) not in self.begun
                    self.begun.add((name, position))
                case DropDocument(name):
                    assert name in self.kept
                    assert self.state.jobs[name].state in ENDED
                    assert self.state.jobs[name].document_bytes == 0
                case DropResults(name):
                    self.kept.remove(name)
                case Stop(name):
                    assert not self.state.jobs[name].is_unfinished

    @rule(pages=st.integers(1, 5), size=st.integers(0, 120), model=st.sampled_from("xy"))
    def submit(self, pages: int, size: int, model: str) -> None:
        self.number += 1
        name = f"j{self.number}"
        try:
            decided = table.submit(self.state, job(name, pages, size, model), self.now)
        except JobsFull:
            return
        self.kept.add(name)
        self.become(decided)

    @rule(x=st.integers(0, 3), y=st.integers(0, 3))
    def begin(self, x: int, y: int) -> None:
        before = {model: self.state.reading(model) for model in "xy"}
        self.become(table.begin_pages(self.state, {"x": x, "y": y}, self.now))
        for model, window in (("x", x), ("y", y)):
            assert self.state.reading(model) <= max(window, before[model])

    @precondition(lambda self: self.state.jobs)
    @rule(data=st.data(), size=st.integers(0, 80), good=st.booleans())
    def end_page(self, data: st.DataObject, size: int, *, good: bool) -> None:
        reading = [name for name, each in self.state.jobs.items() if each.reading]
        if reading:
            name = data.draw(st.sampled_from(reading))
            self.become(table.end_page(self.state, name, size, self.now, read=good))

    @precondition(lambda self: self.state.jobs)
    @rule(data=st.data(), how=st.sampled_from([table.cancel, table.fail]))
    def end(self, data: st.DataObject, how: object) -> None:
        name = data.draw(st.sampled_from(sorted(self.state.jobs)))
        if how is table.cancel:
            self.become(table.cancel(self.state, name, self.now))
        else:
            self.become(table.fail(self.state, name, ErrorInfo(), self.now))

    @rule(seconds=st.floats(0.0, 60.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.become(table.expire(self.state, self.now))

    @invariant()
    def holds(self) -> None:
        state, limits = self.state, self.state.limits
        assert state.used_bytes <= limits.memory_bytes
        assert state.count(JobState.QUEUED, JobState.RUNNING) <= limits.unfinished
        assert state.count(*ENDED) <= limits.ended
        assert {name for name, each in state.jobs.items() if each.state is not JobState.EXPIRED} == self.kept
        queued = [name for queue in state.queues.values() for name in queue]
        to_begin = {
            name for name, each in state.jobs.items() if each.is_unfinished and each.begun < each.pages
        }
        assert len(queued) == len(set(queued))
        assert set(queued) == to_begin
        for each in state.jobs.values():
            assert each.done + each.reading == each.begun or not each.is_unfinished
            assert each.begun <= each.pages


TestAnything = Anything.TestCase
