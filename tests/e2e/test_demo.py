"""The README's first command, as a user runs it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import cluster as support
from tests.support.paths import ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.timeout(400)]


def processes_with(text: str) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in command:
            found.append(command)
    return found


def test_the_demo_tells_the_whole_story_and_leaves_nothing(tmp_path: Path) -> None:
    if (reason := support.unavailable()) and os.environ.get("CI") != "true":
        pytest.skip(f"{support.NO_CONTROL_PLANE}{reason}")
    folder = tmp_path / "demo"

    done = subprocess.run(
        [sys.executable, "-m", "devcluster.demo", "--dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=380,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    story = done.stdout
    assert story.startswith("Starts a Kubernetes here, installs the operator, and shows in seven acts")
    placed = [line for line in story.splitlines() if "is the least loaded of 6" in line]
    assert len(placed) == 2
    assert not [line for line in placed if "gpu-a/" in line], "gpu-a carries other jobs"
    assert "504.50" in story
    uids = [line.split(":", 1)[1].strip() for line in story.splitlines() if "Pod UIDs" in line]
    assert len(uids) == 2
    assert uids[0] == uids[1]
    locations = [line.split()[-3] for line in story.splitlines() if "GPU-" in line and "generation" in line]
    assert [sorted(locations[i : i + 2]) for i in range(0, len(locations), 2)] == [
        ["unloaded", "unloaded"],
        ["gpu", "unloaded"],
        ["cpu", "unloaded"],
        ["unloaded", "unloaded"],
        ["gpu", "unloaded"],
        ["gpu", "gpu"],
    ]
    assert "requests wait for 1 awake pod, more than 1 each" in story
    assert re.search(r"Event GpuMemoryYielded: pp-ocr of default/receipts-\S+ makes way on GPU-", story)
    turns = [
        line.split()[-1] for line in story.splitlines() if "default/receipts-" in line and "pp-ocr" in line
    ]
    assert sorted(turns[-2:]) == ["cpu", "gpu"]
    assert not folder.exists()
    assert processes_with(str(folder)) == []
