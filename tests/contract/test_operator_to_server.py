"""What the operator writes for a pod, the real server reads: its configuration, and its live settings."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_inference.config import parsing
from ocr_inference.config import settings as server
from ocr_operator.decide import manifests
from ocr_operator.resources import live_settings
from ocr_wire import engines, names
from ocr_wire import live_settings as wire
from ocr_wire.live_settings import LiveValues, Received
from tests.support import resources

MODELS = [
    {**resources.RAPIDOCR, "gpuMemory": "1536Mi"},
    {**resources.DEEPSEEK, "dtype": "bfloat16", "attention": "sdpa"},
    {"name": "local.model", "engine": "transformers", "source": {"path": "/models/x"}},
]


def configured(**spec: Any) -> server.Config:
    """The server's reading of the annotation in the pod template."""
    made = manifests.desired(resources.make_deployment(**spec), manifests.Defaults(image="ocr:1"), "token")
    annotations = made[-1]["spec"]["template"]["metadata"]["annotations"]
    text = annotations[names.ANNOTATION_CONFIG]
    read = msgspec.json.decode(text, type=server.Config)
    if all(model.engine in engines.NAMES for model in read.models):
        assert parsing.parse_config(text) == read
    return read


def test_server_reads_its_models_and_limits() -> None:
    """In its own strict types, so also models whose engine a server may lack."""
    limits = {"maxUploadBytes": 2048, "maxImagePixels": 4096, "maxPdfPages": 3}
    config = configured(models=MODELS, server={"limits": limits})
    assert [model.name for model in config.models] == ["pp-ocr", "deepseek-ocr", "local.model"]
    pp_ocr, deepseek, local = config.models
    assert pp_ocr.gpu_memory_bytes == 1536 * 2**20
    assert deepseek.source is not None
    assert deepseek.source.hugging_face is not None
    assert deepseek.source.hugging_face.repo == "deepseek-ai/DeepSeek-OCR"
    assert deepseek.source.hugging_face.revision == "main"
    assert (deepseek.dtype, deepseek.attention) == ("bfloat16", "sdpa")
    assert local.source is not None
    assert local.source.path == "/models/x"
    assert config.server.limits == server.Limits(
        max_upload_bytes=2048, max_image_pixels=4096, max_pdf_pages=3
    )


def test_defaults_of_both_sides_agree() -> None:
    """A server without live settings behaves as the resource with defaults."""
    config = configured()
    assert config.server.limits == server.Config().server.limits
    live = envelope(1)
    told = read(live)
    assert server.effective(config, told.values) == server.effective(config, LiveValues())


def read(sent: wire.Envelope) -> Received:
    """The server's reading of what the operator sends."""
    told = wire.parse(sent.to_json(), ("pp-ocr",))
    assert isinstance(told, Received), told
    assert not told.envelope.ignored
    return told


def envelope(revision: int, **spec: Any) -> wire.Envelope:
    values = live_settings.values(resources.make_deployment(**spec).spec)
    return wire.envelope(4, revision, values)


SECONDS = st.integers(-1, 31_536_000)


@given(SECONDS, SECONDS, st.integers(1, 256), st.integers(0, 10_000), st.integers(-1000, 1000), st.booleans())
def test_server_echoes_the_envelope_that_it_was_told(
    offload: int, release: int, pages: int, wait: int, priority: int, preload: bool
) -> None:
    """The hash of the echo is how the operator knows that a pod has applied a revision."""
    sent = envelope(
        7,
        models=[
            {
                **resources.RAPIDOCR,
                "idle": {"releaseAfterSeconds": release},
                "priority": priority,
                "preload": preload,
            }
        ],
        idle={"offloadAfterSeconds": offload},
        batching={"maxPages": pages, "maxWaitMilliseconds": wait},
    )
    echo = read(sent).envelope.to_json()
    assert json.loads(echo) == json.loads(sent.to_json())
    assert wire.read(echo) == sent


BOUNDS = [
    {"idle": {"offloadAfterSeconds": -1, "exitAfterSeconds": 0, "releaseAfterSeconds": 31_536_000}},
    {"batching": {"maxPages": 256, "maxWaitMilliseconds": 10_000}},
    {"queue": {"limit": 10_000, "patienceSeconds": 3600, "deadlineSeconds": 86_400}},
    {"queue": {"limit": 1, "patienceSeconds": 0, "deadlineSeconds": 1}},
    {"logLevel": "debug"},
    {"models": [{**resources.RAPIDOCR, "priority": -1000}]},
]


@pytest.mark.parametrize("spec", BOUNDS, ids=str)
def test_server_accepts_what_the_resource_admits(spec: dict[str, Any]) -> None:
    sent = envelope(1, **spec)
    assert read(sent).envelope.hash == sent.hash
