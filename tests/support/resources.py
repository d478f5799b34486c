"""Resources to test with: a valid one to vary, and the ways to get one wrong.

The invalid ones are told once and used twice: the API server must refuse them, and the operator must
recognise them when they slip through, both naming the same field.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from ocr_operator.resources import policies
from ocr_operator.resources import spec as specs
from ocr_wire import names
from tests.support.paths import ROOT

RAPIDOCR: Mapping[str, Any] = {"name": "pp-ocr", "engine": "rapidocr"}
DEEPSEEK: Mapping[str, Any] = {
    "name": "deepseek-ocr",
    "engine": "transformers",
    "source": {"huggingFace": {"repo": "deepseek-ai/DeepSeek-OCR"}},
    "gpuMemory": "12Gi",
}


def make_body(name: str = "invoices", **spec: Any) -> dict[str, Any]:
    """A resource as it would be read back, with one rapidocr model unless `models` says otherwise."""
    return {
        "apiVersion": "ocr-operator.io/v1alpha1",
        "kind": "OcrDeployment",
        "metadata": {"name": name, "namespace": "default", "uid": "uid-of-invoices", "generation": 1},
        "spec": copy.deepcopy({"models": [dict(RAPIDOCR)], **spec}),
    }


def make_deployment(name: str = "invoices", **spec: Any) -> specs.OcrDeployment:
    """The same, parsed."""
    parsed = specs.parse(make_body(name, **spec))
    assert isinstance(parsed, specs.OcrDeployment), parsed
    return parsed


def examples() -> dict[str, dict[str, Any]]:
    """File of `examples/` → the resource that it shows, the last one if there are several."""
    found = {}
    for file in sorted((ROOT / "examples").glob("*.yaml")):
        for each in yaml.safe_load_all(file.read_text(encoding="utf-8")):
            if each["kind"] == names.KIND:
                found[file.stem] = each
    return found


def make_policy(
    name: str = "office-hours", *, created: str = "2026-11-23T08:00:00Z", **spec: Any
) -> policies.Policy:
    """A policy as the operator reads it."""
    return policies.parse(make_policy_body(name, created=created, **spec))


def make_policy_body(
    name: str = "office-hours", *, created: str = "2026-11-23T08:00:00Z", **spec: Any
) -> dict[str, Any]:
    return {
        "apiVersion": "ocr-operator.io/v1alpha1",
        "kind": "OcrIdlePolicy",
        "metadata": {"name": name, "uid": f"uid-of-{name}", "generation": 1, "creationTimestamp": created},
        "spec": copy.deepcopy(spec),
    }


def crd(plural: str = names.PLURAL) -> dict[str, Any]:
    """The definition, as its file has it."""
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "crds" / f"{plural}.yaml").read_text(encoding="utf-8"))
    return loaded


def crd_schema(plural: str = names.PLURAL) -> dict[str, Any]:
    """The schema of the only version."""
    [version] = crd(plural)["spec"]["versions"]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return schema


@dataclass(frozen=True)
class Invalid:
    """A body that must be refused with a message that has `field` in it."""

    id: str
    field: str
    body: Mapping[str, Any]


def _invalid(case: str, field: str, name: str = "invoices", **spec: Any) -> Invalid:
    return Invalid(case, field, make_body(name, **spec))


def _models(**change: Any) -> list[dict[str, Any]]:
    return [{**RAPIDOCR, **change}]


def _deepseek(**change: Any) -> list[dict[str, Any]]:
    return [{**DEEPSEEK, **change}]


def _labels(key: str) -> dict[str, Any]:
    return {"metadata": {"labels": {key: "x"}}}


INVALID = [
    _invalid("name too long", "metadata.name", name="a" * 47),
    _invalid("name starts with a digit", "metadata.name", name="1nvoices"),
    _invalid("name with a dot", "metadata.name", name="in.voices"),
    _invalid("no models", "spec.models", models=[]),
    _invalid("nine models", "spec.models", models=[{**RAPIDOCR, "name": f"m{n}"} for n in range(9)]),
    _invalid("a model twice", "spec.models[1]", models=[*_models(), *_models()]),
    _invalid("model name in capitals", "spec.models[0].name", models=_models(name="OCR")),
    _invalid("model without engine", "spec.models[0].engine", models=[{"name": "m"}]),
    _invalid("unknown engine", "spec.models[0].engine", models=_models(engine="tesseract")),
    _invalid("the test engine", "spec.models[0].engine", models=_models(engine="fake")),
    _invalid(
        "transformers without source",
        "spec.models[0].source",
        models=[{"name": "m", "engine": "transformers"}],
    ),
    _invalid("vllm without source", "spec.models[0].source", models=[{"name": "m", "engine": "vllm"}]),
    _invalid(
        "vllm with attention", "spec.models[0].attention", models=_deepseek(engine="vllm", attention="sdpa")
    ),
    _invalid("empty source", "spec.models[0].source", models=_deepseek(source={})),
    _invalid(
        "two sources", "spec.models[0].source", models=_deepseek(source={**DEEPSEEK["source"], "path": "/m"})
    ),
    _invalid("rapidocr with source", "spec.models[0].source", models=_models(source={"path": "/m"})),
    _invalid("relative path", "spec.models[0].source.path", models=_deepseek(source={"path": "models/x"})),
    _invalid(
        "repository without owner",
        "spec.models[0].source.huggingFace.repo",
        models=_deepseek(source={"huggingFace": {"repo": "DeepSeek-OCR"}}),
    ),
    _invalid(
        "source without repository",
        "spec.models[0].source.huggingFace.repo",
        models=_deepseek(source={"huggingFace": {"revision": "main"}}),
    ),
    _invalid("unknown dtype", "spec.models[0].dtype", models=_deepseek(dtype="int4")),
    _invalid("rapidocr with dtype", "spec.models[0].dtype", models=_models(dtype="float16")),
    _invalid("unknown attention", "spec.models[0].attention", models=_deepseek(attention="fast")),
    _invalid("rapidocr with attention", "spec.models[0].attention", models=_models(attention="sdpa")),
    _invalid("no quantity", "spec.models[0].gpuMemory", models=_models(gpuMemory="12 GB")),
    _invalid("zero memory", "spec.models[0].gpuMemory", models=_models(gpuMemory="0")),
    _invalid("negative memory", "spec.models[0].gpuMemory", models=_models(gpuMemory=-1)),
    _invalid(
        "model timeout below never",
        "spec.models[0].idle.offloadAfterSeconds",
        models=_models(idle={"offloadAfterSeconds": -2}),
    ),
    _invalid("priority beyond bounds", "spec.models[0].priority", models=_models(priority=1001)),
    _invalid("preload as text", "spec.models[0].preload", models=_models(preload="yes")),
    _invalid("negative replicas", "spec.replicas", replicas=-1),
    _invalid("too many replicas", "spec.replicas", replicas=501),
    _invalid("replicas as text", "spec.replicas", replicas="two"),
    _invalid("timeout below never", "spec.idle.offloadAfterSeconds", idle={"offloadAfterSeconds": -2}),
    _invalid("timeout of a century", "spec.idle.releaseAfterSeconds", idle={"releaseAfterSeconds": 3155760000}),
    _invalid("fractional timeout", "spec.idle.exitAfterSeconds", idle={"exitAfterSeconds": 0.5}),
    _invalid("empty batches", "spec.batching.maxPages", batching={"maxPages": 0}),
    _invalid("no queue", "spec.queue.limit", queue={"limit": 0}),
    _invalid("no deadline", "spec.queue.deadlineSeconds", queue={"deadlineSeconds": 0}),
    _invalid("unknown log level", "spec.logLevel", logLevel="verbose"),
    _invalid("unknown policy", "spec.routing.policy", routing={"policy": "random"}),
    _invalid("unknown sharing", "spec.gpu.sharing", gpu={"sharing": "mig"}),
    _invalid("unknown memory policy", "spec.gpu.memoryPolicy", gpu={"memoryPolicy": "burst"}),
    _invalid("turns on a GPU of one's own", "spec.gpu.memoryPolicy", gpu={"memoryPolicy": "onDemand"}),
    _invalid("shared without memory", "spec.models", gpu={"sharing": "shared"}),
    _invalid("resource without domain", "spec.gpu.resourceName", gpu={"resourceName": "gpu"}),
    _invalid("product with a space", "spec.gpu.products[0]", gpu={"products": ["NVIDIA L40S"]}),
    _invalid("no kind of cache", "spec.cache", cache={"emptyDir": None}),
    _invalid("two kinds of cache", "spec.cache", cache={"emptyDir": {}, "hostPath": {"path": "/models"}}),
    _invalid("one copy in each pod's own folder", "spec.cache", cache={"emptyDir": {}, "weightsInMemory": "perNode"}),
    _invalid("unknown place of weights", "spec.cache.weightsInMemory", cache={"emptyDir": {}, "weightsInMemory": "x"}),
    _invalid("claim without name", "spec.cache.persistentVolumeClaim.claimName", cache={"persistentVolumeClaim": {}}),
    _invalid("relative host path", "spec.cache.hostPath.path", cache={"hostPath": {"path": "models"}}),
    _invalid("cache without size", "spec.cache.emptyDir.sizeLimit", cache={"emptyDir": {"sizeLimit": 0}}),
    _invalid("privileged port", "spec.server.port", server={"port": 80}),
    _invalid("image with a space", "spec.server.image", server={"image": "ocr :1"}),
    _invalid("tiny uploads", "spec.server.limits.maxUploadBytes", server={"limits": {"maxUploadBytes": 1}}),
    _invalid("CPU in words", "spec.resources.requests.cpu", resources={"requests": {"cpu": "two"}}),
    _invalid("negative limit", "spec.resources.limits.memory", resources={"limits": {"memory": -1}}),
    *(
        _invalid(f"{of} above its limit", "spec.resources", resources={"requests": {of: high}, "limits": {of: low}})
        for of, high, low in (("cpu", "1500m", 1), ("memory", "2Gi", "2000M"), ("ephemeral-storage", 2, 1))
    ),
    _invalid(
        "label of the operator", "spec.template.metadata.labels", template=_labels("ocr-operator.io/awake")
    ),
    _invalid(
        "label that selects", "spec.template.metadata.labels", template=_labels("app.kubernetes.io/name")
    ),
    _invalid(
        "annotation of the operator",
        "spec.template.metadata.annotations",
        template={"metadata": {"annotations": {"ocr-operator.io/gpu-uuids": "GPU-1"}}},
    ),
    _invalid("template as text", "spec.template.spec", template={"spec": "hostNetwork"}),
]  # fmt: skip


def _window(**change: Any) -> dict[str, Any]:
    return {"windows": [{"start": "08:00", "end": "18:00", **change}]}


def _selecting(**requirement: Any) -> dict[str, Any]:
    return {"matchExpressions": [{"key": "team", **requirement}]}


def _wrong(case: str, field: str, name: str = "office-hours", **spec: Any) -> Invalid:
    return Invalid(case, field, make_policy_body(name, **spec))


INVALID_POLICIES = [
    _wrong("name too long", "metadata.name", name="a" * 64),
    _wrong("priority beyond bounds", "spec.priority", priority=1001),
    _wrong("unknown mode", "spec.mode", mode="always"),
    _wrong("timeout below never", "spec.idle.offloadAfterSeconds", idle={"offloadAfterSeconds": -2}),
    _wrong("empty batches", "spec.batching.maxPages", batching={"maxPages": 0}),
    _wrong("no queue", "spec.queue.limit", queue={"limit": 0}),
    _wrong("unknown log level", "spec.logLevel", logLevel="verbose"),
    _wrong("unknown policy", "spec.routing.policy", routing={"policy": "random"}),
    _wrong("a model twice", "spec.models[1]", models=[{"name": "m"}, {"name": "m"}]),
    _wrong("model without name", "spec.models[0].name", models=[{"preload": True}]),
    _wrong("preload as text", "spec.models[0].preload", models=[{"name": "m", "preload": "yes"}]),
    _wrong("25 o'clock", "spec.windows[0].start", **_window(start="25:00")),
    _wrong("one digit", "spec.windows[0].end", **_window(end="9:00")),
    _wrong("empty window", "spec.windows[0]", **_window(end="08:00")),
    _wrong("no day", "spec.windows[0].days", **_window(days=[])),
    _wrong("unknown day", "spec.windows[0].days[0]", **_window(days=["Monday"])),
    _wrong("zone that leaves its folder", "spec.windows[0].timeZone", **_window(timeZone="../etc/passwd")),
    _wrong("too many windows", "spec.windows", windows=[_window()["windows"][0] for _ in range(9)]),
    _wrong("label with a space", "spec.selector.matchLabels", selector={"matchLabels": {"team": "a b"}}),
    _wrong(
        "unknown operator", "spec.selector.matchExpressions[0].operator", selector=_selecting(operator="Gt")
    ),
    _wrong(
        "In without values",
        "spec.selector.matchExpressions[0]",
        selector=_selecting(operator="In"),
    ),
    _wrong(
        "Exists with values",
        "spec.namespaceSelector.matchExpressions[0]",
        namespaceSelector=_selecting(operator="Exists", values=["a"]),
    ),
]
"""Policies that the API server must refuse, and the operator must not accept when they slip through."""
