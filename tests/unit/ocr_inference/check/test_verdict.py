"""What of the facts is a problem, a warning or a note."""

from dataclasses import dataclass
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from ocr_inference.check import verdict, words
from ocr_inference.check.facts import (
    Cache,
    Device,
    Driver,
    Engine,
    Facts,
    Finding,
    Gpu,
    Limits,
    LiveSettings,
    Model,
    Port,
    Report,
    Tokens,
    Torch,
)
from ocr_inference.check.verdict import GIB

NO_DRIVER = "no NVIDIA driver here (libnvidia-ml.so.1); set OCR_DEVICE=cpu to serve on the CPU"
CUDA = Device(
    requested="auto",
    kind="cuda",
    uuid="GPU-1",
    product="NVIDIA L40S",
    memory_total_bytes=48 * GIB,
    memory_free_bytes=40 * GIB,
    compute_capability="8.9",
    dtype="bfloat16",
)
MODEL = Model(name="m", engine="transformers", on="cuda", source="complete", fits="yes")
TORCH = Torch(version="2.15.0", cuda_version="12.8", transformers="5.23.0", computes_on_gpu=True)
GOOD = Facts(
    version="1",
    python="3.12.1",
    device=CUDA,
    driver=Driver(version="580.65.06", cuda_version="13.0"),
    gpus=(
        Gpu(
            index=0,
            uuid="GPU-1",
            product="NVIDIA L40S",
            memory_total_bytes=48 * GIB,
            memory_free_bytes=40 * GIB,
            compute_capability="8.9",
            dtype="bfloat16",
            served=True,
        ),
    ),
    torch=TORCH,
    engines=(Engine(name="transformers", extra="transformers"),),
    models=(MODEL,),
    cache=Cache(path="/c", hub_path="/c/hub", writable=True, free_bytes=GIB),
    limits=Limits(
        cores=1.5,
        threads=2,
        memory_limit_bytes=32 * GIB,
        memory_left_bytes=16 * GIB,
        open_files=1024,
        connections=448,
    ),
    port=Port(host="", port=8001),
    tokens=(Tokens(variable="OCR_ADMIN_TOKEN_FILE", path="/t", usable=True),),
)
CPU = structs.replace(
    GOOD,
    device=Device(requested="auto", kind="cpu", dtype="float32"),
    driver=Driver(problem=NO_DRIVER),
    gpus=(),
    torch=None,
    models=(structs.replace(MODEL, on="cpu"),),
)


def told(facts: Facts) -> list[tuple[str, str]]:
    return [(each.level, each.subject) for each in verdict.judge(facts)]


def model(**changed: Any) -> Facts:
    return structs.replace(GOOD, models=(structs.replace(MODEL, **changed),))


def test_a_good_machine_has_nothing_to_say() -> None:
    assert told(GOOD) == []


def test_builds_for_the_device_that_is_here_have_nothing_to_say() -> None:
    served = structs.replace(GOOD, models=(structs.replace(MODEL, engine="vllm"),))
    assert told(built_for("cuda", served)) == []
    on_cpu = structs.replace(CPU, models=(structs.replace(MODEL, engine="vllm", on="simulated"),))
    assert told(built_for("cpu", on_cpu)) == [("note", "device")]
    nowhere = structs.replace(CPU, device=Device(requested="cuda", problem=NO_DRIVER), models=on_cpu.models)
    assert told(built_for("cuda", nowhere)) == [("problem", "device")], "which is said already"


def test_a_machine_without_a_gpu_is_fine_unless_one_is_asked_for() -> None:
    assert verdict.judge(CPU) == (Finding("note", "device", "no NVIDIA driver here, so the CPU is used"),)
    asked = structs.replace(CPU, device=Device(requested="cuda", problem=NO_DRIVER))
    assert verdict.judge(asked) == (Finding("problem", "device", NO_DRIVER),)
    chosen = structs.replace(CPU, device=Device(requested="cpu", kind="cpu"))
    assert told(chosen) == []
    refused = structs.replace(CPU, driver=Driver(problem="the NVIDIA driver refused (start: x); do y"))
    assert verdict.judge(refused)[0].level == "warning", "there is a driver, and it should work"


@dataclass(frozen=True)
class Case:
    facts: Facts
    level: str
    subject: str
    says: str


def built_for(kind: Literal["cpu", "cuda"], facts: Facts) -> Facts:
    return structs.replace(facts, engines=(Engine(name="vllm", extra="vllm", runs="9.1", computes_on=kind),))


CASES = {
    "engine": Case(
        structs.replace(GOOD, engines=(Engine(name="rapidocr", missing=("onnxruntime",), extra="rapidocr"),)),
        *("problem", "engines", "pip install 'ocr-operator[rapidocr]'"),
    ),
    "an interpreter": Case(
        structs.replace(GOOD, engines=(Engine(name="vllm", extra="vllm", problem="it has no vllm"),)),
        *("problem", "engines", "engine vllm: it has no vllm"),
    ),
    "a build for GPUs, on a CPU": Case(
        built_for(
            "cuda",
            structs.replace(
                CPU,
                device=Device(requested="cpu", kind="cpu"),
                models=(structs.replace(MODEL, engine="vllm", on="cpu"),),
            ),
        ),
        *(
            "problem",
            "engines",
            "model m would compute on the CPU, and vllm 9.1 is a build for GPUs: have a GPU",
        ),
    ),
    "a build for CPUs, on a GPU": Case(
        built_for("cpu", structs.replace(GOOD, models=(structs.replace(MODEL, engine="vllm"),))),
        *("problem", "engines", "on the GPU, and vllm 9.1 is a build for CPUs: set OCR_DEVICE=cpu"),
    ),
    "torch": Case(structs.replace(GOOD, torch=Torch(problem="no kernel")), "problem", "torch", "no kernel"),
    "torch for CPUs": Case(
        structs.replace(GOOD, torch=structs.replace(TORCH, cuda_version=None)),
        *("problem", "torch", "a build for CPUs"),
    ),
    "files": Case(
        structs.replace(GOOD, limits=structs.replace(GOOD.limits, connections=None, problem="90 files")),
        *("problem", "limits", "90 files"),
    ),
    "too large": Case(
        model(need_bytes=80 * GIB, need_from="gpuMemory", fits="no"),
        *("problem", "models", "needs 80.0 GiB (gpuMemory), and the GPU has 48.0 GiB"),
    ),
    "no room now": Case(
        model(need_bytes=44 * GIB, need_from="gpuMemory", fits="not_now"),
        "warning",
        "models",
        "40.0 GiB are free",
    ),
    "no room for pages": Case(
        model(need_bytes=int(47.5 * GIB), need_from="checkpoint"),
        "warning",
        "models",
        "1.0 GiB of the GPU for pages",
    ),
    "unknown size": Case(model(fits="unknown"), "note", "models", "gpuMemory says it"),
    "host memory": Case(
        model(weight_bytes=20 * GIB), "problem", "models", "raise the container's memory limit"
    ),
    "packed copies": Case(
        model(on="cpu", weight_bytes=4 * GIB, packed_bytes=4 * GIB),
        *("note", "models", "a second copy of its weights, 4.0 GiB at most"),
    ),
    "packed copies without room": Case(
        model(on="cpu", weight_bytes=8 * GIB, packed_bytes=8 * GIB),
        *("warning", "models", "16.0 GiB are left, so it may do without and write more slowly"),
    ),
    "checkpoint": Case(
        model(source="incomplete", source_problem="config.json: is missing"),
        "problem",
        "models",
        "config.json",
    ),
    "download": Case(
        model(source="to_download"), "note", "models", "/c/hub by the first load, where 1.0 GiB"
    ),
    "flash attention": Case(
        model(attention="flash_attention_2"), "warning", "models", "flash-attn isn't installed"
    ),
    "flash attention in float32": Case(
        model(attention="flash_attention_2", dtype="float32"), "warning", "models", "half precision"
    ),
    "bfloat16 on an old GPU": Case(
        structs.replace(model(dtype="bfloat16"), device=structs.replace(CUDA, dtype="float16")),
        *("warning", "models", "dtype auto is float16 here"),
    ),
    "port": Case(
        structs.replace(GOOD, port=Port(host="", port=1, problem="can't listen")),
        "problem",
        "port",
        "can't listen",
    ),
    "a server that runs": Case(
        structs.replace(GOOD, port=Port(host="", port=1, served=True)),
        "note",
        "port",
        "serves at port 1 already",
    ),
    "tokens": Case(
        structs.replace(
            GOOD,
            tokens=(Tokens(variable="OCR_ADMIN_TOKEN_FILE", path="/t", usable=False, problem="has none"),),
        ),
        *("problem", "tokens", "OCR_ADMIN_TOKEN_FILE: has none (/t)"),
    ),
    "a bad token among others": Case(
        structs.replace(
            GOOD,
            tokens=(
                Tokens(variable="OCR_ADMIN_TOKEN_FILE", path="/t", usable=True, problem="line 2 is odd"),
            ),
        ),
        *("warning", "tokens", "the other tokens count"),
    ),
    "keys without a token": Case(
        structs.replace(GOOD, tokens=(Tokens(variable="OCR_API_KEYS_FILE", path="/t", usable=True),)),
        *("warning", "tokens", "controls are closed"),
    ),
    "live settings that aren't valid": Case(
        structs.replace(
            GOOD, live_settings=LiveSettings(path="/l", is_there=True, problem="values.idle: odd")
        ),
        *(
            "warning",
            "live_settings",
            "OCR_LIVE_SETTINGS_FILE: values.idle: odd (/l): the server would start by",
        ),
    ),
    "live settings that aren't there": Case(
        structs.replace(GOOD, live_settings=LiveSettings(path="/l", is_there=False)),
        *("note", "live_settings", "/l isn't there, so nothing is declared yet"),
    ),
    "live settings of a newer version": Case(
        structs.replace(
            GOOD, live_settings=LiveSettings(path="/l", is_there=True, revision=3, ignored=("values.nap",))
        ),
        *("warning", "live_settings", "doesn't know values.nap"),
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_each_finding(case: Case) -> None:
    (finding,) = verdict.judge(case.facts)
    assert (finding.level, finding.subject) == (case.level, case.subject)
    assert case.says in finding.message
    assert finding.subject in Facts.__struct_fields__


def test_a_cache_that_cannot_be_written_matters_where_something_is_downloaded() -> None:
    cache = structs.replace(GOOD.cache, writable=False, problem="/c can't be written")
    assert told(structs.replace(GOOD, cache=cache)) == [("warning", "cache")]
    assert told(structs.replace(model(source="to_download"), cache=cache)) == [
        ("problem", "cache"),
        ("note", "models"),
    ]


@given(
    st.one_of(st.none(), st.integers(0, 100)), st.integers(0, 100), st.one_of(st.none(), st.integers(0, 100))
)
def test_what_fits(need: int | None, total: int, free: int | None) -> None:
    found = verdict.fits(need, total, free)
    assert (found == "unknown") == (need is None and total > 0)
    assert (found == "no") == (need is not None and 0 < total < need)
    if found == "not_now":
        assert need is not None
        assert free is not None
        assert free < need <= total


def test_dtypes() -> None:
    assert [verdict.dtype("cuda", each) for each in ((7, 5), (8, 0), (12, 0), None)] == [
        *("float16", "bfloat16", "bfloat16", "bfloat16")
    ]
    assert verdict.dtype("cpu", None) == verdict.dtype("simulated", None) == "float32"


def test_words_for_people() -> None:
    facts = structs.replace(
        GOOD, models=(*model(need_bytes=GIB, need_from="checkpoint").models, CPU.models[0])
    )
    assert words.render(Report(ok=True, findings=(Finding("note", "device", "hm"),), facts=facts)) == (
        "ocr-inference 1, Python 3.12.1\n"
        "\n"
        "device    cuda: NVIDIA L40S GPU-1, 48.0 GiB\n"
        "driver    NVIDIA 580.65.06, CUDA up to 13.0\n"
        "gpus      0: NVIDIA L40S GPU-1, 40.0 GiB of 48.0 GiB free, compute capability 8.9, bfloat16 (served)\n"
        "torch     2.15.0 for CUDA 12.8, computes on the GPU; transformers 5.23.0; no flash-attn\n"
        "models    m (transformers): fits, 1.0 GiB by checkpoint\n"
        "          m (transformers): on the CPU\n"
        "cache     /c: writable, 1.0 GiB free\n"
        "limits    1.5 cores, 2 threads, 16.0 GiB of 32.0 GiB of host memory left\n"
        "          1024 open files: 448 requests at a time\n"
        "port      *:8001 is free\n"
        "tokens    OCR_ADMIN_TOKEN_FILE: read\n"
        "\n"
        "note      hm\n"
        "\n"
        "This works.\n"
    )


def test_a_start_is_hopeless_where_no_model_can_be_loaded() -> None:
    torch = Engine(name="transformers", extra="transformers")
    ocr = Engine(name="rapidocr", extra="rapidocr")
    absent = structs.replace(torch, missing=("torch",))
    written = GOOD.cache
    full = structs.replace(GOOD.cache, writable=False, problem="/c can't be written by user 65532")
    assert verdict.at_start([(torch, "to_download"), (ocr, "not_needed")], written) == ((), False)
    assert verdict.at_start([(torch, "complete")], full) == ((), False)
    found, hopeless = verdict.at_start([(torch, "to_download")], full)
    assert hopeless
    assert [each.message for each in found] == [
        "/c can't be written by user 65532: give it to that user (chown), or set OCR_CACHE_DIR to another folder"
    ]
    assert verdict.at_start([(torch, "to_download"), (ocr, "not_needed")], full) == (found, False)
    found, hopeless = verdict.at_start([(absent, "complete")], written)
    assert hopeless
    assert "engine transformers lacks torch" in found[0].message
