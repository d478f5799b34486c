"""Helm and promtool as tests run them: the chart rendered, and what a monitoring system makes of it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster.progress import Progress
from devcluster.tools.toolbox import Toolbox
from tests.support.chart_docs import CHART
from tests.support.patience import PATIENCE

Documents = list[dict[str, Any]]


def _absent(reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def helm() -> Path:
    """Helm, or a skip that says how to get it; a failure where CI demands it."""
    found = Toolbox(os.environ, Progress(sys.stderr)).find(("helm",))
    if found is None:
        _absent("helm is neither on PATH nor built: run `python -m devcluster tools`")
    assert found is not None
    return found["helm"]


def promtool() -> Path:
    """The same of promtool."""
    found = shutil.which("promtool") or shutil.which("promtool", path=str(Path(sys.executable).parent))
    if found is None:
        _absent("promtool isn't here: `make promtool`, where apt is")
    assert found is not None
    return Path(found)


def run(
    folder: Path, *arguments: str, values: dict[str, Any] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run Helm with values, and without the user's own plugins, caches and registries; `folder` is for its files."""
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(values or {}), encoding="utf-8")
    environment = {"PATH": os.defpath, "HOME": str(folder), "HELM_NO_PLUGINS": "1"}
    command = [str(helm()), *arguments, "--values", str(file)]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def render(folder: Path, values: dict[str, Any], *arguments: str, chart: Path = CHART) -> Documents:
    """The objects of a release `ocr-operator` in the namespace `ocr-system`; those of `helm test` are no part of it."""
    where = ("template", "ocr-operator", str(chart), "--namespace", "ocr-system", "--no-hooks")
    done = run(folder, *where, *arguments, values=values)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def hooks(folder: Path, values: dict[str, Any]) -> Documents:
    """The objects of `helm test`."""
    where = ("template", "ocr-operator", str(CHART), "--namespace", "ocr-system")
    done = run(folder, *where, values=values)
    assert done.returncode == 0, done.stderr
    found = [document for document in yaml.safe_load_all(done.stdout) if document]
    return [each for each in found if "helm.sh/hook" in each["metadata"].get("annotations", {})]


def only(documents: Documents, kind: str, name: str | None = None) -> dict[str, Any]:
    """The one object of that kind, and of that name where one is given."""
    [found] = [d for d in documents if d["kind"] == kind and name in {None, d["metadata"]["name"]}]
    return found
