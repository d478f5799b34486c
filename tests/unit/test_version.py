"""The version is said once, in pyproject.toml; what can't read it there has the same."""

import re
import tomllib

import pytest
import yaml

from ocr_operator.settings import VERSION
from tests.support.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def found(file: str, pattern: str) -> list[str]:
    return re.findall(pattern, (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize(
    ("file", "pattern", "times"),
    [
        ("charts/ocr-operator/Chart.yaml", r'^(?:version|appVersion): "?([^"\n]+)"?$', 2),
        ("charts/ocr-operator/Chart.yaml", r"image: ghcr.io/ocr-operator/\S+:(\S+?)(?:-\w+)?$", 2),
        ("charts/ocr-operator-crds/Chart.yaml", r'^(?:version|appVersion): "?([^"\n]+)"?$', 2),
        ("charts/ocr-resources/Chart.yaml", r'^(?:version|appVersion): "?([^"\n]+)"?$', 2),
        ("docs/upgrades.md", r"version: ~([\d.]+),", 3),
        ("docs/kubectl-plugin.md", r"^versions +ok .* operator ([\d.]+),", 1),
        ("Dockerfile.operator", r"^ARG VERSION=(.+)$", 1),
        ("Dockerfile.inference", r"^ARG VERSION=(.+)$", 1),
        ("plugin/krew/ocr.yaml", r"^  version: v(.+)$", 1),
        ("uv.lock", r'^name = "ocr-operator"\nversion = "(.+)"$', 1),
    ],
)
def test_what_repeats_the_version_has_the_same(file: str, pattern: str, times: int) -> None:
    assert found(file, pattern) == [PROJECT["version"]] * times


def test_what_is_not_released_yet_has_a_version_of_its_own() -> None:
    """Else an upgrade from the last release would name the same images, and nodes keep those that they have."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", text, re.MULTILINE)
    unreleased = text.partition("## [Unreleased]")[2].partition("\n## ")[0]
    assert (PROJECT["version"] in released) == ("- " not in unreleased)


def test_programs_and_images_take_it_from_the_distribution() -> None:
    assert PROJECT["version"] == VERSION
    workflow = (ROOT / ".github" / "workflows" / "release.yaml").read_text(encoding="utf-8")
    assert (
        'grep --fixed-strings --line-regexp "version = \\"${GITHUB_REF_NAME#v}\\"" pyproject.toml' in workflow
    )
    assert yaml.safe_load(workflow)["jobs"].keys() >= {"test", "images", "chart", "package", "plugin"}


def test_the_changelog_has_the_form_that_a_release_is_cut_from() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    releases = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert releases[0] == "[Unreleased]"
    assert [
        each for each in releases[1:] if not re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", each)
    ] == []
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        kinds = re.findall(r"^### (.+)$", section, re.MULTILINE)
        assert set(kinds) <= KINDS
        assert len(set(kinds)) == len(kinds), "each kind once"
