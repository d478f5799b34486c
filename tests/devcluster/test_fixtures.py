"""What a test run says when there can be no control plane: run for real, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.programs import without_programs

REPOSITORY = Path(__file__).parents[2]


ONE_TEST = "tests/devcluster/test_cluster.py::test_nodes_are_ready_and_have_gpus"


def run_without_control_plane(
    tmp_path: Path, test: str = ONE_TEST, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run one cluster test where neither programs, nor Go, nor PyPI can be had."""
    programs = without_programs(tmp_path)
    kept = {
        key: value
        for key, value in os.environ.items()
        if key not in {"CI", "KUBEBUILDER_ASSETS"} and "PYTEST" not in key
    }
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist"),
            test,
        ],
        cwd=REPOSITORY,
        env=kept | {"PATH": str(programs), "XDG_CACHE_HOME": str(tmp_path / "cache")} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_cluster_tests_are_skipped_and_the_summary_says_so(tmp_path: Path) -> None:
    done = run_without_control_plane(tmp_path)
    assert done.returncode == 0, done.stdout
    *_, last_but_one, last = done.stdout.strip().splitlines()
    assert "1 skipped" in last
    assert last_but_one.startswith("CLUSTER TESTS DID NOT RUN: 1 skipped, no control plane: Go isn't on PATH")
    assert "no route to the index" in last_but_one


def test_in_ci_that_is_a_failure(tmp_path: Path) -> None:
    done = run_without_control_plane(tmp_path, CI="true")
    assert done.returncode == 1, done.stdout
    assert "no control plane: Go isn't on PATH" in done.stdout


def test_machine_that_can_be_no_node_is_told_so_before_images_are_built(tmp_path: Path) -> None:
    done = run_without_control_plane(
        tmp_path, "tests/e2e/test_real_node.py::test_timeout_counts_in_the_same_container"
    )
    assert "SKIPPED" in done.stdout, done.stdout
    assert "a node with containers needs" in done.stdout
