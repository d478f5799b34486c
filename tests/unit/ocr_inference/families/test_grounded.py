"""DeepSeek-OCR's prompts, and what becomes of what it wrote."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.families import deepseek_ocr, grounded
from ocr_inference.families.deepseek_ocr import UnfitConfig, native_config
from ocr_inference.families.grounded import prompt, read
from ocr_inference.layout.frame import Line
from ocr_inference.protocol.page import Box
from ocr_wire.tasks import Task

PROMPTS = {
    Task.DOCUMENT: "\n<|grounding|>Convert the document to markdown.",
    Task.OCR: "\n<|grounding|>OCR this image.",
    Task.FREE: "\nFree OCR.",
    Task.FIGURE: "\nParse the figure.",
    Task.DESCRIBE: "\nDescribe this image in detail.",
    Task.FIND: "\nLocate <|ref|>Total<|/ref|> in the image.",
    Task.FREEFORM: "\nWhat is the total?",
}
"""As their authors publish them, behind the picture."""


@dataclass(frozen=True)
class Written:
    text: str
    width: int = 999
    height: int = 1998
    lines: tuple[Line, ...] = ()


@pytest.mark.parametrize("task", Task)
def test_prompts_word_for_word(task: Task) -> None:
    assert prompt(task, "Total", "What is the total?", grounding=False) == PROMPTS[task]


def test_grounding_asks_for_places_once() -> None:
    assert prompt(Task.FREE, None, None, grounding=True) == "\n<|grounding|>Free OCR."
    assert prompt(Task.OCR, None, None, grounding=True) == PROMPTS[Task.OCR]
    assert prompt(Task.FIND, "Total", None, grounding=True) == PROMPTS[Task.FIND]
    assert prompt(Task.FREEFORM, None, "<|grounding|>x", grounding=True) == "\n<|grounding|>x"


@given(st.text(st.sampled_from("<|/refdtgoun>image "), max_size=80))
def test_a_term_is_never_an_instruction(term: str) -> None:
    words = prompt(Task.FIND, term, None, grounding=False)
    inside = words.removeprefix("\nLocate <|ref|>").removesuffix("<|/ref|> in the image.")
    assert "<|ref|>" not in inside
    assert "<|/ref|>" not in inside
    assert "<|grounding|>" not in inside
    assert grounded.IMAGE_MARK not in inside


@given(st.text(st.sampled_from("<image>x\n"), max_size=60))
def test_a_prompt_of_ones_own_has_no_second_picture(words: str) -> None:
    assert grounded.IMAGE_MARK not in prompt(Task.FREEFORM, None, words, grounding=False)


TEXT = (
    "<|ref|>title<|/ref|><|det|>[[100, 50, 900, 100]]<|/det|>\n# Report\n\n\n\n"
    "<|ref|>image<|/ref|><|det|>[[0, 200, 999, 400]]<|/det|>\n"
    "<|ref|>table<|/ref|><|det|>[[10, 500, 20, 600]]<|/det|>\n<table><tr><td>1</td></tr></table>\n"
    "<|ref|>equation<|/ref|><|det|>[[1, 1, 2, 2]]<|/det|>\nx \\coloneqq 1"
)


def test_a_document_is_markdown_with_pictures_where_they_are() -> None:
    text, boxes = read(Task.DOCUMENT, None, Written(TEXT))
    assert text == (
        "# Report\n\n![image](#xywh=0,400,999,400)\n\n<table><tr><td>1</td></tr></table>\n\nx := 1"
    )
    assert boxes[0] == Box("title", (100, 100, 900, 200))
    assert [box.label for box in boxes] == ["title", "image", "table", "equation"]


def test_lines_of_ocr_keep_their_text_which_is_the_label() -> None:
    written = (
        "<|ref|>Total 12.00<|/ref|><|det|>[[1, 2, 3, 4]]<|/det|>\n"
        "<|ref|>Date<|/ref|><|det|>[[5, 6, 7, 8]]<|/det|>"
    )
    text, boxes = read(Task.OCR, None, Written(written))
    assert text == "Total 12.00\nDate"
    assert boxes == (Box("Total 12.00", (1, 4, 3, 8)), Box("Date", (5, 12, 7, 16)))


def test_what_was_found_is_told_once_with_all_its_places() -> None:
    written = "<|ref|>Total<|/ref|><|det|>[[1, 2, 3, 4], [5, 6, 7, 8]]<|/det|>"
    assert read(Task.FIND, "Total", Written(written * 2)) == (
        "Total",
        (*(Box("Total", (1, 4, 3, 8)), Box("Total", (5, 12, 7, 16))) * 2,),
    )
    assert read(Task.FIND, "Total", Written("It is not there.")) == ("", ())


def test_text_without_tags_is_the_text() -> None:
    assert read(Task.FREE, None, Written("  Hello\n\n\n\nworld \x1b[31mred\n")) == ("Hello\n\nworld red", ())


# --- the published configuration ------------------------------------------------------------------------------

HUB = {
    "architectures": ["DeepseekOCRForCausalLM"],
    "auto_map": {"AutoModel": "evil.Model"},
    "language_config": {
        "architectures": ["DeepseekV2ForCausalLM"],
        "auto_map": {"AutoModel": "evil.Model"},
        "torch_dtype": "bfloat16",
        "kv_lora_rank": None,
        "q_lora_rank": None,
        "qk_nope_head_dim": 0,
        "qk_rope_head_dim": 0,
        "v_head_dim": 0,
        "use_mla": False,
        "lm_head": True,
        "rm_head": False,
        "hidden_size": 1280,
        "num_hidden_layers": 12,
    },
}


def test_the_published_configuration_becomes_the_native_one() -> None:
    native = native_config(HUB)
    assert native["text_config"] == {
        "hidden_size": 1280,
        "num_hidden_layers": 12,
        "layer_types": ["full_attention"] * 12,
    }
    assert native["image_token_id"] == 128815
    assert native["tie_word_embeddings"] is False
    assert native["vision_config"] is None
    assert "auto_map" not in native


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"architectures": ["DeepseekVLV2ForCausalLM"]}, "architectures"),
        ({"architectures": None}, "architectures"),
        ({"language_config": None}, "language_config"),
        ({"language_config": {"use_mla": True}}, "language_config.use_mla"),
        ({"language_config": {"num_hidden_layers": 10**9}}, "language_config.num_hidden_layers"),
        ({"vision_config": {"width": {"sam_vit_b": {}}}}, "vision_config.width"),
        ({"vision_config": {"width": 7}}, "vision_config.width"),
    ],
)
def test_another_models_configuration_is_refused_by_field(changes: dict[str, object], field: str) -> None:
    with pytest.raises(UnfitConfig) as refused:
        native_config({**HUB, **changes})
    assert refused.value.field == field


def test_resolutions() -> None:
    sides = {name: each.side for name, each in deepseek_ocr.RESOLUTIONS.items()}
    assert sides == {"tiny": 512, "small": 640, "base": 1024, "large": 1280, "gundam": 1024}
    gundam = deepseek_ocr.RESOLUTIONS["gundam"]
    assert (gundam.tile, gundam.most_tiles) == (640, 9)
