import gc

import pytest

from ocr_wire import garbage


def test_objects_that_are_there_are_exempt_and_others_are_looked_through_less_often() -> None:
    before = gc.get_threshold()
    there: list[list[object]] = [[]]
    with garbage.seldom():
        assert gc.get_threshold() == (garbage.YOUNG, *before[1:])
        assert before[0] < garbage.YOUNG
        assert not any(each is there for each in gc.get_objects()), "a collection doesn't look at it"
        later: list[list[object]] = [[]]
        assert any(each is later for each in gc.get_objects())
        garbage.exempt()
        assert not any(each is later for each in gc.get_objects())

    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


def test_a_process_with_more_in_hand_looks_even_less_often() -> None:
    with garbage.seldom(garbage.YOUNG * 10):
        assert gc.get_threshold()[0] == garbage.YOUNG * 10


def raised(error: Exception) -> Exception:
    with pytest.raises(type(error)):
        raise error
    return error


def test_an_error_and_those_that_led_to_it_forget_their_frames() -> None:
    first, second = raised(ValueError()), raised(OSError())
    second.__cause__ = first
    garbage.forget_frames(second)
    assert (first.__traceback__, second.__traceback__) == (None, None)


def test_errors_that_led_to_each_other_end() -> None:
    first, second = raised(ValueError()), raised(OSError())
    first.__cause__, second.__cause__ = second, first
    garbage.forget_frames(first)
    assert (first.__traceback__, second.__traceback__) == (None, None)


def test_all_is_as_before_after_an_error() -> None:
    before = gc.get_threshold()
    with pytest.raises(LookupError), garbage.seldom():
        raise LookupError
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)
