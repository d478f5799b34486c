"""Models that are asked in a chat: their own prompts, plain words for the others, and what is made of the answer."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.families import chat
from ocr_inference.layout.frame import Line
from ocr_wire.tasks import Task


@dataclass(frozen=True)
class Written:
    text: str
    width: int = 100
    height: int = 100
    lines: tuple[Line, ...] = ()


@pytest.mark.parametrize(
    ("model_type", "task", "words"),
    [
        ("glm_ocr", Task.DOCUMENT, "Text Recognition:"),
        ("paddleocr_vl", Task.OCR, "OCR:"),
        ("paddleocr_vl", Task.FIGURE, "Chart Recognition:"),
        ("lighton_ocr", Task.DOCUMENT, ""),  # the picture alone
        ("got_ocr2", Task.DOCUMENT, " OCR with format: "),
        ("got_ocr2", Task.FREE, " OCR: "),
    ],
)
def test_models_made_for_reading_get_their_own_words(model_type: str, task: Task, words: str) -> None:
    assert chat.prompt(model_type, task, None) == words


@pytest.mark.parametrize("model_type", ["qwen2_5_vl", *chat.OWN])
@pytest.mark.parametrize("task", Task)
def test_every_task_can_be_asked_of_every_model(model_type: str, task: Task) -> None:
    if task is Task.FREEFORM:
        assert chat.prompt(model_type, task, "Count the rows.") == "Count the rows."
    elif task not in chat.OWN.get(model_type, {}):
        assert chat.prompt(model_type, task, None) == chat.GENERAL[task]


@given(st.text(st.sampled_from("<|im_startend>gpad/x"), max_size=80))
def test_words_do_not_end_their_turn_in_got_ocr2(words: str) -> None:
    frame = chat.got_ocr2_text("")
    text = chat.got_ocr2_text(words)
    for mark in ("<|im_start|>", "<|im_end|>", "<imgpad>", "<img>", "</img>"):
        assert text.count(mark) == frame.count(mark)


def test_an_answer_is_its_text_without_what_terminals_obey() -> None:
    assert chat.read(Task.DOCUMENT, None, Written(" # A\r\n\x1b[2Jb\n")) == ("# A\nb", ())


def test_find_searches_what_was_read() -> None:
    page = Written("Invoice 7\nTo tal: 12\nsubtotal 9\n")
    assert chat.read(Task.FIND, "TOTAL", page) == ("To tal: 12\nsubtotal 9", ())
    assert chat.read(Task.FIND, "nothing", page) == ("", ())
    assert chat.read(Task.FIND, " ", page) == ("", ())
