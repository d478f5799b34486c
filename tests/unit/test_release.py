"""The workflow of a release: nothing has its name before it was scanned and signed, and notes are the changelog's."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.support.paths import ROOT

JOBS: Final[dict[str, Any]] = yaml.safe_load(
    (ROOT / ".github" / "workflows" / "release.yaml").read_text(encoding="utf-8")
)["jobs"]


def steps(job: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = JOBS[job]["steps"]
    return found


def place(job: str, text: str) -> int:
    """Which step has the text in its command or its action."""
    [found] = [n for n, each in enumerate(steps(job)) if text in each.get("run", "") + each.get("uses", "")]
    return found


def test_image_has_a_tag_only_when_it_is_scanned_and_signed() -> None:
    order = ("docker/build-push-action@", "anchore/scan-action@", "cosign sign", "imagetools create --tag")
    places = [place("images", each) for each in order]
    assert places == sorted(places)
    built = steps("images")[places[0]]["with"]
    assert "tags" not in built
    assert "push-by-digest=true" in built["outputs"]
    assert steps("images")[places[1]]["with"]["fail-build"] is True


def test_what_is_published_comes_after_the_tests_and_the_plugin_last() -> None:
    for name, job in JOBS.items():
        needs = job.get("needs", [])
        assert name == "version" or needs, name
    assert JOBS["test"]["needs"] == "version"
    assert set(JOBS["plugin"]["needs"]) == {"images", "chart", "package"}
    assert {name for name, job in JOBS.items() if "id-token" in job.get("permissions", {})} == {
        "images",
        "chart",
        "package",
    }, "who signs"


@pytest.mark.parametrize("version", ["0.1.0", "9.9.9"])
def test_notes_are_the_section_of_the_changelog(version: str, tmp_path: Path) -> None:
    (tmp_path / "CHANGELOG.md").write_text((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    guard = steps("version")[place("version", "CHANGELOG.md")]["run"]
    notes = re.findall(r"^awk .+$", steps("plugin")[place("plugin", "gh release")]["run"], re.MULTILINE)
    environment = {"PATH": os.environ["PATH"], "GITHUB_REF_NAME": f"v{version}"}

    def ran(script: str) -> int:
        done = subprocess.run(
            ["bash", "-ec", script], cwd=tmp_path, env=environment, capture_output=True, check=False
        )
        return done.returncode

    assert (ran(guard) == 0) is (version == "0.1.0")
    assert ran(notes[0]) == 0
    text = (tmp_path / "notes.md").read_text(encoding="utf-8")
    assert ("### Added\n" in text) is (version == "0.1.0")
    assert "## [" not in text
