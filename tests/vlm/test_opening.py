"""From a checkpoint's folder to a model: what is chosen, what is dropped, and what is refused by file and field."""

import functools
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the extra `transformers`")

import torch
from transformers.utils.import_utils import is_flash_attn_2_available

from ocr_inference.engines.transformers import checkpoints as opening
from ocr_inference.engines.transformers.checkpoints import Opened
from ocr_inference.families import CHAT, DEEPSEEK_OCR, DEEPSEEK_OCR2
from ocr_inference.protocol.engine import EngineError, FailureKind, InferRequest
from ocr_wire.tasks import Task
from tests.support import chatmodels, checkpoints
from tests.support.engines import picture

# Processors of transformers hand Pillow's pictures to numpy in a way that numpy will drop.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

IMAGE = 128815


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("bases")

    def get(kind: str) -> Path:
        if not (folder / kind).exists():
            (folder / kind).mkdir()
            match kind:
                case "deepseek_ocr":
                    checkpoints.make_deepseek_ocr(folder / kind)
                case "deepseek_ocr2":
                    checkpoints.make_deepseek_ocr2(folder / kind)
                case _:
                    chatmodels.make(folder / kind, kind)
        return folder / kind

    return get


@pytest.fixture(scope="module")
def standard(bases: Callable[[str], Path]) -> Callable[[str], Opened]:
    """An unspoilt checkpoint, opened once."""
    return functools.cache(lambda kind: opening.open(bases(kind)))


@pytest.fixture
def copy(bases: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """A checkpoint of one's own to spoil."""
    return lambda kind: Path(shutil.copytree(bases(kind), tmp_path / kind))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def refused(folder: Path) -> str:
    with pytest.raises(EngineError) as error:
        opening.open(folder)
    assert error.value.failure.kind is FailureKind.INVALID_CHECKPOINT
    return error.value.failure.message


def ids(opened: Opened, **asked: Any) -> list[int]:
    size = asked.pop("size", (60, 40))
    request = InferRequest(image=picture(*size), **{"task": "free", **asked})
    return list(opened.prepare(request).tensors["input_ids"][0].tolist())


# --- what is chosen -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "family", "converts"),
    [
        ("deepseek_ocr", DEEPSEEK_OCR, True),
        ("deepseek_ocr2", DEEPSEEK_OCR2, True),
        ("qwen2_5_vl", CHAT, True),
        ("glm_ocr", CHAT, True),
    ],
)
def test_the_family_is_the_configurations(
    standard: Callable[[str], Opened], kind: str, family: object, converts: bool
) -> None:
    opened = standard(kind)
    assert opened.family is family
    assert opened.dtype is torch.float32
    # The files are in bfloat16, so float32 is made of them once.
    assert opened.conversion_needed is converts
    assert all(each.is_meta for each in opened.model.parameters()), "no weights are read yet"


def test_a_wake_does_not_look_at_weights(copy: Callable[[str], Path]) -> None:
    folder = copy("deepseek_ocr")
    (folder / "model.safetensors").write_bytes(bytes(100))
    assert not opening.open(folder, unread=False).conversion_needed
    assert "model.safetensors" in refused(folder)


@pytest.mark.parametrize(
    ("asked", "device", "capability", "wanted"),
    [
        ("auto", "cpu", None, torch.float32),
        ("auto", "cuda", (9, 0), torch.bfloat16),
        ("auto", "cuda", (8, 0), torch.bfloat16),
        ("auto", "cuda", (7, 5), torch.float16),
        ("float32", "cuda", (9, 0), torch.float32),
        ("bfloat16", "cpu", None, torch.bfloat16),
    ],
)
def test_auto_is_what_the_device_computes_fast_and_right(
    bases: Callable[[str], Path],
    asked: str,
    device: str,
    capability: tuple[int, int] | None,
    wanted: torch.dtype,
) -> None:
    opened = opening.open(bases("glm_ocr"), asked, device=device, capability=capability)
    assert opened.dtype is wanted
    # Files that hold what the model wants are read as they are.
    assert opened.conversion_needed == (wanted is not torch.bfloat16)


@pytest.mark.parametrize(
    ("attention", "dtype", "device", "wanted", "reason"),
    [
        ("auto", "auto", "cpu", "sdpa", ""),
        ("sdpa", "auto", "cpu", "sdpa", ""),
        ("eager", "auto", "cpu", "eager", ""),
        ("flash_attention_2", "auto", "cpu", "sdpa", "needs a CUDA device, this is cpu"),
        ("flash_attention_2", "float32", "cuda", "sdpa", "doesn't compute in float32"),
        ("flash_attention_2", "bfloat16", "cuda", "sdpa", "needs flash-attn, which is not installed"),
    ],
)
def test_attention_falls_back_and_says_why(
    bases: Callable[[str], Path], attention: str, dtype: str, device: str, wanted: str, reason: str
) -> None:
    if "flash-attn" in reason and is_flash_attn_2_available():
        pytest.skip("flash-attn is installed here")
    opened = opening.open(bases("glm_ocr"), dtype, attention, device=device, capability=(9, 0))
    assert opened.attention == wanted
    assert opened.model.config.get_text_config(decoder=True)._attn_implementation == wanted
    assert any(reason in each for each in opened.reasons) if reason else opened.reasons == ()


def test_a_published_deepseek_ocr_is_opened_without_its_code(bases: Callable[[str], Path]) -> None:
    folder = bases("deepseek_ocr")
    assert "SystemExit" in (folder / "modeling_deepseekocr.py").read_text(), "it would end this process"
    opened = opening.open(folder)
    assert any("auto_map is dropped" in reason for reason in opened.reasons)
    text = opened.model.config.get_text_config(decoder=True)
    assert set(text.layer_types) == {"full_attention"}
    assert not hasattr(opened.model.config, "auto_map")
    assert not hasattr(text, "auto_map")
    assert opened.eos_ids == {1}


@pytest.mark.parametrize(
    ("said", "wanted"), [(1, {1}), ([1, 128822], {1, 128822})], ids=["one token", "several"]
)
def test_ends_of_answers_are_what_the_checkpoint_says(
    copy: Callable[[str], Path], said: object, wanted: set[int]
) -> None:
    folder = copy("deepseek_ocr")
    checkpoints.write_json(folder / "generation_config.json", {"eos_token_id": said})
    assert opening.open(folder).eos_ids == wanted


# --- prompts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resolution", "size", "tokens"),
    [
        ("tiny", (60, 40), 73),
        ("small", (60, 40), 111),
        ("base", (60, 40), 273),
        ("large", (60, 40), 421),
        ("gundam", (60, 40), 273),
        ("gundam", (1240, 1754), 903),
        (None, (1240, 1754), 903),
    ],
)
def test_the_picture_comes_first_and_takes_its_tokens(
    standard: Callable[[str], Opened], resolution: str | None, size: tuple[int, int], tokens: int
) -> None:
    opened = standard("deepseek_ocr")
    found = ids(opened, resolution=resolution, size=size)
    assert found[: tokens + 1] == [0] + [IMAGE] * tokens
    assert IMAGE not in found[tokens + 1 :]
    assert opened.decode(found[tokens + 1 :]) == "\nFree OCR."


def test_version_2_has_its_own_resolutions(standard: Callable[[str], Opened]) -> None:
    opened = standard("deepseek_ocr2")
    for name, tokens in {"small": 145, "base": 257, "gundam": 257}.items():
        assert ids(opened, resolution=name).count(IMAGE) == tokens
    with pytest.raises(EngineError, match="no resolution 'tiny'; it has small, base, gundam"):
        ids(opened, resolution="tiny")


def test_marks_in_a_persons_words_are_no_pictures(standard: Callable[[str], Opened]) -> None:
    opened = standard("deepseek_ocr")
    asked = {"task": "freeform", "resolution": "tiny"}
    assert ids(opened, prompt="<image>Read<ima<image>ge> it", **asked).count(IMAGE) == 73
    assert ids(opened, task="find", find_term="<image>", resolution="tiny").count(IMAGE) == 73


@pytest.mark.parametrize("kind", sorted(chatmodels.KINDS))
def test_words_for_chat_models_are_text(standard: Callable[[str], Opened], kind: str) -> None:
    """Marks of pictures or turns in a prompt count as nothing else than their letters."""
    opened = standard(kind)
    marks = "".join(chatmodels.KINDS[kind].special)
    special = range(500, 512)
    plain = [each for each in ids(opened, task="freeform", prompt="x") if each in special]
    marked = [each for each in ids(opened, task="freeform", prompt=marks) if each in special]
    assert marked == plain
    assert ids(opened, resolution="tiny") == ids(opened), (
        "it chooses the resolution itself; the answer says so"
    )


@pytest.mark.parametrize("kind", ["deepseek_ocr", "glm_ocr"])
def test_an_answer_ends_with_the_context(copy: Callable[[str], Path], kind: str) -> None:
    folder = copy(kind)
    field = "language_config" if kind == "deepseek_ocr" else "text_config"
    config = json.loads((folder / "config.json").read_text())
    checkpoints.edit_json(folder / "config.json", **{field: config[field] | {"max_position_embeddings": 200}})
    opened = opening.open(folder)
    tiny: dict[str, Any] = {"resolution": "tiny"} if kind == "deepseek_ocr" else {}
    prepared = opened.prepare(InferRequest(image=picture(60, 40), task="free", max_tokens=9000, **tiny))
    assert prepared.prompt_tokens + prepared.max_new_tokens == 200
    long = InferRequest(image=picture(60, 40), task=Task.FREEFORM, prompt="x" * 300, **tiny)
    with pytest.raises(EngineError, match="the model's context has 200"):
        opened.prepare(long)


# --- what is refused ------------------------------------------------------------------------------------------


def spoil(folder: Path, file: str, **changes: object) -> None:
    checkpoints.edit_json(folder / file, **changes)


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("glm_ocr", {"model_type": "evil_vl"}, ("config.json: model_type", "'evil_vl'")),
        ("glm_ocr", {"model_type": "llama"}, ("config.json: model_type", "'llama'")),
        ("glm_ocr", {"model_type": ["glm_ocr"]}, ("config.json: model_type",)),
        (
            "glm_ocr",
            {"model_type": "evil_vl", "auto_map": {"AutoModel": "x.Y"}},
            ("code that auto_map names is not executed",),
        ),
        ("glm_ocr", {"quantization_config": {}}, ("config.json: quantization_config", "not supported")),
        ("glm_ocr", {"text_config": {"num_hidden_layers": 10**6}}, ("text_config.num_hidden_layers",)),
        ("glm_ocr", {"vision_config": {"depth": 10**6}}, ("vision_config.depth", "more than 1024")),
        ("glm_ocr", {"a": {"b": 1e300}}, ("config.json: a.b",)),
        ("deepseek_ocr", {"architectures": ["Other"]}, ("config.json: architectures",)),
        ("deepseek_ocr", {"language_config": 7}, ("config.json: language_config",)),
    ],
)
def test_configurations(
    copy: Callable[[str], Path], kind: str, changes: dict[str, object], words: tuple[str, ...]
) -> None:
    folder = copy(kind)
    spoil(folder, "config.json", **changes)
    message = refused(folder)
    for word in words:
        assert word in message


def test_a_tokenizer_of_another_model(copy: Callable[[str], Path]) -> None:
    folder = copy("deepseek_ocr")
    special = {**checkpoints.DEEPSEEK_TOKENS, IMAGE: "<picture>", 5: "<image>"}
    checkpoints.tokenizer(special, checkpoints.VOCABULARY).save(str(folder / "tokenizer.json"))
    assert "tokenizer.json: <image>: has id 5, the model's is 128815" in refused(folder)
    larger = checkpoints.tokenizer(checkpoints.DEEPSEEK_TOKENS, checkpoints.VOCABULARY + 9)
    larger.save(str(folder / "tokenizer.json"))
    assert "tokenizer.json: vocab: token 129288 is beyond the model's 129280" in refused(folder)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("the end", "is neither a token id"),
        ([], "is neither"),
        (True, "is neither"),
        (400_000, "doesn't exist"),
    ],
)
def test_ends_of_answers_that_are_none(copy: Callable[[str], Path], said: object, words: str) -> None:
    folder = copy("deepseek_ocr")
    checkpoints.write_json(folder / "generation_config.json", {"eos_token_id": said})
    message = refused(folder)
    assert "eos_token_id" in message
    assert words in message


def test_a_chat_model_without_a_template(copy: Callable[[str], Path]) -> None:
    folder = copy("glm_ocr")
    (folder / "chat_template.jinja").unlink()
    assert "chat_template.jinja: is missing" in refused(folder)


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ raise_exception('no') }}",
        "{% for",
        "{{ nothing.at.all }}",
        "{% for each in range(1000000000) %}{% endfor %}",
    ],
)
def test_a_template_that_fails_fails_the_page(copy: Callable[[str], Path], template: str) -> None:
    folder = copy("glm_ocr")
    (folder / "chat_template.jinja").write_text(template)
    opened = opening.open(folder)
    with pytest.raises(EngineError, match="can't take this page") as error:
        ids(opened)
    assert error.value.failure.kind is FailureKind.UNSUPPORTED


def test_a_processor_of_the_checkpoints_own_is_not_looked_for(
    copy: Callable[[str], Path], tmp_path: Path
) -> None:
    for kind in ("qwen2_5_vl", "glm_ocr"):
        folder = copy(kind)
        changes = {"processor_class": "Evil", "auto_map": {"AutoProcessor": "evil.Evil"}}
        spoil(folder, "preprocessor_config.json", **changes)
        (folder / "evil.py").write_text("raise SystemExit('remote code was executed')\n")
    opening.open(tmp_path / "qwen2_5_vl")  # the library knows a class for this type, and none for the other
    assert "processor_config.json: processor_class: names no known processor" in refused(tmp_path / "glm_ocr")
