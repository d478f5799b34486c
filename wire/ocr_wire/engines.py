"""What runs a model's weights, one row an engine, with a row for each of its options.

Everything that lists engines follows from `ENGINES` or is compared with it: the server's registry and its FILE, the
enumeration and the rules of the resource's definition, tables of the documentation.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

OptionValue = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Option:
    """Option of an engine, by which a FILE's `options` are read; its default says of which type it is."""

    name: str
    default: OptionValue
    low: float = 0
    high: float = 0
    meaning: str = ""
    """For documentation; empty in engines that are for tests."""

    @property
    def row(self) -> str:
        """Default and values, as cells of a table."""
        if isinstance(self.default, bool):
            return f"{str(self.default).lower()} | true, false"
        return f"{self.default} | {_shown(self.low)} – {_shown(self.high)}"

    def fault(self, value: OptionValue) -> str | None:
        """Return what is wrong with a value, as the end of a sentence about the option; None if nothing is."""
        if isinstance(self.default, bool):
            return None if isinstance(value, bool) else f"is true or false, not {repr(value)[:80]}"
        if isinstance(self.default, str):
            return None if isinstance(value, str) else f"is text, not {repr(value)[:80]}"
        is_whole = isinstance(self.default, int)
        fits = isinstance(value, int if is_whole else int | float) and not isinstance(value, bool)
        if fits and self.low <= value <= self.high:  # type: ignore[operator]  # it is a number
            return None
        kind = "a whole number" if is_whole else "a number"
        return f"is {kind} from {_shown(self.low)} to {_shown(self.high)}, not {repr(value)[:80]}"


def _shown(number: float) -> str:
    """Return all digits of a bound: rounded, it may be beyond itself."""
    return f"{number:.15g}"


_THREADS: Final = Option(
    "threads", 0, 0, 256, "threads of the CPU; 0 takes what affinity and the cgroup's quota allow, at most 8"
)
_FAKE_SECONDS: Final = ("load", "stand_by", "restore", "offload", "unload", "infer")
_FAKE_MOST: Final = float(1 << 40)


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
    image: Literal["cpu", "cuda", "vllm"] = "cpu"
    """The smallest image that has its libraries (`IMAGES`)."""
    worker_mib: int = 0
    """MiB of host memory that a model's processes take beside weights that it fetches, as measured for a page on a CPU
    (docs/operations.md); what a pod asks of its node follows from it."""
    takes_dtype: bool = False
    """Whether a model may choose the number type of its weights."""
    takes_attention: bool = False
    """Whether a model may choose the attention's implementation."""
    uses_cuda: bool = False
    """Computes on a CUDA device where there is one; others stay in host memory beside it."""
    offloads_on: tuple[str, ...] = ("cuda", "cpu", "simulated")
    """Kinds of devices on which its weights can leave the device and stay in host memory. Elsewhere its models are
    never offloaded: what would offload them for their memory unloads them."""
    outlives_worker: bool = True
    """Whether weights in host memory are the server's, so that another worker restores them. Where they are the
    worker's own, its end is the end of them: there is no deep idle, and what would begin it unloads."""
    interpreter: str = ""
    """Variable of the environment that names the Python which the engine runs in a process of its own; empty where
    its libraries are imported."""
    stands_by: bool = False
    """`Engine.stand_by` takes so long that a process is worth having that has done it before a wake from deep idle."""
    reads_together: bool = False
    """Whether several pages are read sooner together than one after the other."""
    scripts: tuple[str, ...] = ()
    """Scripts that its models read, by their codes in ISO 15924; none where a checkpoint decides it."""
    takes_several: bool = False
    """Whether a request may have several pictures; which of its models take them, the engine says."""
    options: tuple[Option, ...] = ()
    """What `options` of a model may have."""
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
        image="cuda",
        worker_mib=1024,
        takes_dtype=True,
        takes_attention=True,
        uses_cuda=True,
        stands_by=True,
        reads_together=True,
        takes_several=True,
        options=(
            Option("max_batch", 32, 1, 256, "pages at once, where `batching.maxPages` allows as many"),
            _THREADS,
            Option(
                "pack_weights",
                True,
                meaning="on a CPU, a second copy of the text decoder's weights for fast steps while the model is ready",
            ),
            Option(
                "vision_cache_mib",
                192,
                0,
                65_536,
                "MiB of host memory for features of pictures that were read lately, until an offload; 0 keeps none",
            ),
        ),
    ),
    EngineInfo(
        name="vllm",
        module="ocr_inference.engines.vllm.engine",
        extra="vllm",
        meaning="vision-language models by a vLLM server, for many pages at once",
        family="chat",
        knows_family=True,
        source="needed",
        image="vllm",
        worker_mib=2176,
        takes_dtype=True,
        uses_cuda=True,
        offloads_on=("cuda",),
        outlives_worker=False,
        interpreter="OCR_VLLM_PYTHON",
        reads_together=True,
        takes_several=True,
        options=(
            Option("max_batch", 64, 1, 256, "pages at once, where `batching.maxPages` allows as many"),
            Option(
                "max_context",
                0,
                0,
                1 << 20,
                "tokens of prompt and answer; 0 takes the model's, or what `kv_cache_gib` holds of it",
            ),
            Option(
                "kv_cache_gib", 4.0, 0.25, 1024, "GiB for keys and values of all pages that are read at once"
            ),
            Option(
                "eager",
                False,
                meaning="on a GPU, start without compiling and CUDA graphs: sooner ready, slower",
            ),
            _THREADS,
        ),
    ),
    EngineInfo(
        name="rapidocr",
        module="ocr_inference.engines.rapidocr.engine",
        extra="rapidocr",
        meaning="PP-OCR models that come with the image and run on any CPU",
        family="plain",
        source="refused",
        worker_mib=448,
        scripts=("Latn", "Hans", "Hant", "Jpan"),
        options=(
            Option(
                "max_batch",
                2,
                1,
                16,
                "pages at once, where `batching.maxPages` allows as many; no more than threads",
            ),
            _THREADS,
        ),
    ),
    EngineInfo(
        name="fake",
        module="ocr_inference.engines.fake",
        extra="inference",
        meaning="declared timings and faults, for tests",
        family="plain",
        source="optional",
        takes_dtype=True,
        takes_attention=True,
        options=(
            *(Option(f"{call}_seconds", 0.0, -1, _FAKE_MOST) for call in _FAKE_SECONDS),
            Option("host_bytes", 65_536.0, 0, _FAKE_MOST),
            Option("device_bytes", -1.0, -1, _FAKE_MOST),
            Option("max_batch", 1.0, 0, _FAKE_MOST),
            Option("step_seconds", -1.0, -1, _FAKE_MOST),
            Option("repeat", 1.0, 0, _FAKE_MOST),
            Option("faults_file", ""),
        ),
        public=False,
    ),
)
BY_NAME: Final[Mapping[str, EngineInfo]] = {each.name: each for each in ENGINES}
NAMES: Final = tuple(BY_NAME)
PUBLIC: Final = tuple(each.name for each in ENGINES if each.public)
"""What a resource's `engine` may be, in the order of its definition."""

IMAGES: Final = ("cpu", "cuda", "vllm")
"""The images of the server, by the targets that `Dockerfile.inference` builds them by; each has what those before it
have."""

Engine = Literal["transformers", "vllm", "rapidocr"]
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
    for field, takes, value in (
        ("dtype", info.takes_dtype, dtype),
        ("attention", info.takes_attention, attention),
    ):
        if not takes and value != "auto":
            yield field, f"engine {engine} takes no {field}: leave it out, or auto"


def image_of(used: Iterable[str]) -> str:
    """Return the smallest image that has all these engines. One that isn't known is in the largest."""
    ranks = [IMAGES.index(BY_NAME[name].image) if name in BY_NAME else len(IMAGES) - 1 for name in used]
    return IMAGES[max(ranks, default=0)]


def why_missing(engine: str, lacks: Iterable[str]) -> str:
    """Return the sentence about an engine without its packages, with the way out in a cluster and of a shell."""
    info = BY_NAME[engine]
    image = f"target {info.image} of Dockerfile.inference (spec.server.image, or the chart's inferenceImage)"
    without = f"pip install 'ocr-operator[{info.extra}]'"
    if info.interpreter:
        without = (
            f"set {info.interpreter} to the Python of an environment that has it (docs/engine-{engine}.md)"
        )
    return f"engine {engine} lacks {', '.join(lacks)}: use an image of {image}; without containers, {without}"


def bad_options(engine: str, given: Mapping[str, OptionValue]) -> Iterator[tuple[str, str]]:
    """Yield the name of each option that an engine doesn't have or whose value it can't use, and the message."""
    known = {each.name: each for each in BY_NAME[engine].options}
    for name, value in given.items():
        if (option := known.get(name)) is None:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            yield name, f"engine {engine} has no option {name[:80]!r}{hint}"
        elif (fault := option.fault(value)) is not None:
            yield name, f"option {name} {fault}"


def with_defaults(engine: str, given: Mapping[str, OptionValue]) -> dict[str, OptionValue]:
    """Return all options of an engine: the given ones, which are in order, and the defaults of the others."""
    return {each.name: each.default for each in BY_NAME[engine].options} | dict(given)
