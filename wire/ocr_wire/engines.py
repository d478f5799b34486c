"""What runs a model's weights, one row an engine.

Everything that lists engines follows from `ENGINES` or is compared with it: the server's registry and its FILE, the
enumeration and the rules of the resource's definition, tables of the documentation.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    name: str
    module: str
    """Of the server: has `create(spec, host, report) -> Engine`."""
    extra: str
    """The extra of the distribution that brings its libraries."""
    meaning: str
    """What it is for, for documentation."""
    family: str
    """How its answers are read, before its checkpoint is known, and in all cases where `knows_family` is False."""
    knows_family: bool = False
    """Whether each checkpoint has a family of its own, which its pages name."""
    source: Literal["needed", "refused", "optional"]
    """Whether a model has to say where its weights come from."""
    takes_dtype: bool = False
    """Whether a model may choose the number type of its weights, and the attention's implementation."""
    uses_cuda: bool = False
    """Computes on a CUDA device where there is one; others stay in host memory beside it."""
    offloads: bool = True
    """Whether its weights can leave the device and stay in host memory."""
    stands_by: bool = False
    """`Engine.stand_by` takes so long that a process is worth having that has done it before a wake from deep idle."""
    public: bool = True
    """Whether resources can name it; others are for tests, by FILE."""


ENGINES: Final = (
    EngineInfo(
        name="transformers",
        module="ocr_inference.engines.transformers.engine",
        extra="transformers",
        meaning="vision-language models such as DeepSeek-OCR, best on a GPU",
        family="chat",
        knows_family=True,
        source="needed",
        takes_dtype=True,
        uses_cuda=True,
        stands_by=True,
    ),
    EngineInfo(
        name="rapidocr",
        module="ocr_inference.engines.rapidocr",
        extra="rapidocr",
        meaning="PP-OCR models that come with the image and run on any CPU",
        family="plain",
        source="refused",
    ),
    EngineInfo(
        name="fake",
        module="ocr_inference.engines.fake",
        extra="inference",
        meaning="declared timings and faults, for tests",
        family="plain",
        source="optional",
        takes_dtype=True,
        public=False,
    ),
)
BY_NAME: Final[Mapping[str, EngineInfo]] = {each.name: each for each in ENGINES}
NAMES: Final = tuple(BY_NAME)
PUBLIC: Final = tuple(each.name for each in ENGINES if each.public)
"""What a resource's `engine` may be, in the order of its definition."""

Engine = Literal["transformers", "rapidocr"]
"""`PUBLIC` as a type; a test compares the two, since a type can't be made from values."""

DTYPES: Final = ("auto", "bfloat16", "float16", "float32")
ATTENTIONS: Final = ("auto", "sdpa", "eager", "flash_attention_2")
Dtype = Literal["auto", "bfloat16", "float16", "float32"]
Attention = Literal["auto", "sdpa", "eager", "flash_attention_2"]


def broken_rules(
    engine: str, *, has_source: bool, dtype: str = "auto", attention: str = "auto"
) -> Iterator[tuple[str, str]]:
    """Yield the field of a model and the message of each rule of its engine that it breaks.

    The words are those of the resource's definition. An engine that isn't known has no rules.
    """
    info = BY_NAME.get(engine)
    if info is None:
        return
    if info.source == "needed" and not has_source:
        yield "source", f"engine {engine} needs a source: huggingFace or path"
    if info.source == "refused" and has_source:
        yield "source", f"engine {engine} brings its weights along, so it takes no source"
    if not info.takes_dtype:
        for field, value in (("dtype", dtype), ("attention", attention)):
            if value != "auto":
                yield field, f"engine {engine} takes no {field}: leave it out, or auto"
