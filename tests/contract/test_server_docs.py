"""Each route, setting and metric of the server has its place in the documentation."""

import re

from ocr_inference.api import routes
from ocr_inference.config import settings
from ocr_inference.metrics import Metrics, Uploads
from ocr_wire import live_settings, names, state
from tests.support import documents
from tests.support.paths import ROOT


def test_every_route_is_documented() -> None:
    text = (ROOT / "docs" / "http-api.md").read_text()
    for method, path, _ in (*routes.OPEN, *routes.CALLS, *routes.CONTROLS):
        assert f"`{method} {path}`" in text, f"docs/http-api.md doesn't mention {method} {path}"


def test_every_setting_is_documented() -> None:
    text = (ROOT / "docs" / "server-settings.md").read_text()
    source = (ROOT / "inference" / "ocr_inference" / "config" / "environment.py").read_text()
    variables = set(re.findall(r'"((?:OCR|POD|GPU|NVIDIA|FORCE)_[A-Z_]+|PORT)"', source))
    variables |= {getattr(names, name) for name in re.findall(r"names\.(ENV_[A-Z_]+)", source)}
    assert len(variables) >= 12
    parts = (
        *(settings.Config, settings.ServerConfig, settings.Limits, settings.ModelConfig, settings.Source),
        *(live_settings.IdleValues, live_settings.BatchingValues, live_settings.QueueValues),
    )
    keys = {key for part in parts for key in part.__struct_encode_fields__}
    for name in variables | keys:
        assert f"`{name}`" in text, f"docs/server-settings.md doesn't mention {name}"


def test_every_metric_is_documented_and_counted_somewhere() -> None:
    text = (ROOT / "docs" / "metrics-server.md").read_text()
    now = state.parse(documents.frozen("state-everything.json")[-1].read_bytes())
    assert isinstance(now, state.PodState)
    metrics = Metrics("0", lambda: now, lambda: 0, lambda: Uploads(0, 0, 0, 0))
    families = list(metrics.registry.collect())
    assert not [each for family in families for each in family.samples if each.name.endswith("_created")]
    known = [family.name + ("_total" if family.type == "counter" else "") for family in families]
    assert len(known) > 20
    assert sorted(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == sorted(known)
    source = "".join(path.read_text() for path in (ROOT / "inference").rglob("*.py"))
    counted = vars(metrics).keys() - {"registry"}
    assert [
        name for name in counted if not re.search(rf"\.{name}\.(?:labels|inc|observe|set)\b", source)
    ] == []
