"""GitHub's workflows: what runs tests has what tests need, and what a release builds was built before."""

import re
from typing import Any, Final

import pytest
import yaml

from tests.support.paths import ROOT

FOLDER: Final = ROOT / ".github" / "workflows"
TOOLS: Final = {
    "test": {"init", "promtool", "standalone-tools"},
    "test-unit": {"init"},
    "test-browser": {"browser"},
    "test-slow": {"node-tools"},
}
"""Targets of the Makefile that must be made before another one, since a tool that is missing fails where CI=true."""


def workflow(name: str) -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
    return found


JOBS: Final = {
    f"{path.stem}/{name}": job
    for path in sorted(FOLDER.glob("*.yaml"))
    for name, job in workflow(path.name)["jobs"].items()
}


def made(job: dict[str, Any]) -> list[str]:
    """The targets that a job makes, in their order."""
    script = "\n".join(each.get("run", "") for each in job.get("steps", ()))
    arguments = re.findall(r"\bmake (.+)", re.sub("#.*", "", script))
    return [word for each in arguments for word in each.split() if re.fullmatch(r"[a-z][a-z-]*", word)]


def lacking(job: dict[str, Any]) -> set[str]:
    """What a job doesn't make before what needs it."""
    targets = made(job)
    return {
        tool
        for place, target in enumerate(targets)
        for tool in TOOLS.get(target, set()) - set(targets[:place])
    }


def test_targets_of_a_job_are_found_and_what_they_lack_too() -> None:
    steps = [
        {"run": "sudo env A=b make node-tools # make test"},
        {"uses": "x"},
        {"run": "make init\nmake test"},
    ]
    assert made({"steps": steps}) == ["node-tools", "init", "test"]
    assert lacking({"steps": steps}) == {"promtool", "standalone-tools"}


@pytest.mark.parametrize("name", JOBS)
def test_job_installs_what_its_tests_need(name: str) -> None:
    assert lacking(JOBS[name]) == set()
    actions = {each["uses"].partition("@")[0] for each in JOBS[name].get("steps", ()) if "uses" in each}
    if "test" in made(JOBS[name]):
        assert "actions/setup-go" in actions, "what the control plane and other tools are built with"


def test_ci_installs_what_the_table_says_and_no_more() -> None:
    """So that a tool that a new test needs comes into the table, and by it into every other job."""
    tools = {each for each in made(JOBS["ci/check"]) if each not in TOOLS and each != "check"}
    assert tools == TOOLS["test"] | TOOLS["test-browser"]


def test_release_is_tested_by_all_that_ci_runs() -> None:
    assert JOBS["release/test"]["uses"] == "./.github/workflows/ci.yaml"
    assert "workflow_call" in workflow("ci.yaml")[True], "YAML reads `on` as a truth value"
    assert not any("test" in each for name, job in JOBS.items() if "release/" in name for each in made(job))


def test_gpu_images_of_a_release_are_built_every_week_in_the_same_way() -> None:
    assert workflow("thorough.yaml")[True]["schedule"]

    def images(job: str) -> set[tuple[str, str]]:
        entries = JOBS[job]["strategy"]["matrix"]["include"]
        return {(each["target"], each.get("runtime", "")) for each in entries}

    others = {entry for entry in images("release/images") if entry[0] not in {"operator", "cpu"}}
    assert images("thorough/gpu-images") == others
