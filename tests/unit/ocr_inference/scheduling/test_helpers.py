"""Pages that wait here and are read by other pods."""

from dataclasses import replace

from ocr_inference.scheduling import helpers
from ocr_inference.scheduling.commands import Close, Help, HelpEnded, Release
from ocr_inference.scheduling.lifecycle import Event
from tests.support.story import Story


def test_pages_go_to_whoever_is_free_first_the_oldest_first() -> None:
    story = Story(max_pages=1)
    first, second, third, fourth = (story.ask(movable=True) for _ in range(4))
    story.do(Help("b", "a", 1))
    assert story.handed_to(first) == "b", "the model of this pod is still being loaded"
    story.end()
    assert story.granted(second)
    story.do(Release(first))
    assert story.handed_to(third) == "b"
    story.do(Release(second))
    assert story.granted(fourth)


def test_a_helper_has_no_more_pages_than_it_reads_at_once() -> None:
    story = Story()
    tickets = [story.ask(movable=True) for _ in range(5)]
    story.do(Help("b", "a", 2))
    story.do(Help("c", "a", 1))
    assert [story.handed_to(each) for each in tickets] == ["b", "b", "c", None, None]


def test_what_is_no_page_or_has_to_be_alone_is_not_handed_over() -> None:
    story = Story()
    wake, alone, page = story.ask(), story.ask(alone=True, movable=True), story.ask(movable=True)
    story.do(Help("b", "a", 3))
    assert [story.handed_to(each) for each in (wake, alone, page)] == [None, None, "b"]


def test_who_queued_after_an_administrators_request_waits_for_its_end() -> None:
    story = Story(max_pages=1)
    held = story.make_ready()
    story.admin(Event.OFFLOAD)
    later = story.ask(movable=True)
    story.do(Help("b", "a", 1))
    assert story.handed_to(later) is None
    story.do(Release(held))
    story.end()
    assert story.handed_to(later) == "b"


def test_a_helper_is_forgotten_when_nothing_waits_any_more() -> None:
    story = Story(max_pages=1)
    story.make_ready()
    page = story.ask(movable=True)
    story.do(Help("b", "a", 1))
    assert story.handed_to(page) == "b"
    assert "b" in story.scheduler_state.helpers
    story.do(Release(page))
    assert not story.scheduler_state.helpers
    assert story.handed_to(story.ask(movable=True)) is None, "it isn't known any more"


def test_a_lost_helper_gets_no_page_and_is_welcome_again() -> None:
    story = Story(max_pages=1)
    story.make_ready()
    first, second = story.ask(movable=True), story.ask(movable=True)
    story.do(Help("b", "a", 1))
    story.do(HelpEnded("b"))
    story.do(Release(first))
    assert story.handed_to(second) is None
    story.do(Help("b", "a", 1))
    assert story.handed_to(second) == "b"


def test_a_server_that_shuts_down_waits_for_pages_that_are_read_elsewhere() -> None:
    story = Story(max_pages=1)
    page = story.ask(movable=True)
    story.do(Help("b", "a", 1))
    story.end()
    story.do(Close())
    story.end()
    assert not story.scheduler_state.closed
    story.do(Release(page))
    assert story.scheduler_state.closed


def test_helpers_are_bounded_and_of_known_models() -> None:
    story = Story()
    story.ask(movable=False)
    for number in range(helpers.MAX_HELPERS + 1):
        story.do(Help(f"pod-{number}", "a", 1))
    story.do(Help("pod-0", "a", 2))
    story.do(Help("other", "z", 1))
    known = story.scheduler_state.helpers
    assert len(known) == helpers.MAX_HELPERS
    assert known["pod-0"].pages == 2
    assert replace(known["pod-1"], pages=2) == known["pod-0"]
