"""tests/cluster on a cluster that somebody else runs: another pytest, which knows nothing but a kubeconfig."""

import os
import subprocess
import sys

import pytest

from devcluster.cluster import Cluster
from devcluster.machine.layout import CHECKOUT
from tests.support import cluster as support
from tests.support import foreign

pytestmark = pytest.mark.cluster

RUNS = "tests/cluster/test_crd.py::test_status_is_kept_whole_and_printed_in_columns"
LACKS_NODES = "tests/cluster/test_operator.py::test_life_of_a_resource"


def run(kubeconfig: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "OCR_TEST_"))}
    return subprocess.run(
        [*(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"), RUNS, LACKS_NODES],
        cwd=CHECKOUT,
        env=kept | {"KUBECONFIG": kubeconfig} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_tests_run_where_they_can_and_leave_nothing(clusters: support.Clusters) -> None:
    """An API server without nodes and definitions: one test needs no more, the other says what is lacking."""
    place: Cluster = clusters.get("empty")
    before = place.kubectl("get", "namespaces", "--field-selector=status.phase=Active", "-o", "name")
    done = run(str(place.kubeconfig), **{foreign.OPT_IN: "kubeconfig"})
    assert "1 passed, 1 skipped" in done.stdout, done.stdout + done.stderr
    assert "not in the cluster devcluster: it has no nodes" in done.stdout
    assert f"context devcluster ({place.url})" in done.stderr
    assert place.kubectl("get", "crds", "-o", "name") == ""
    after = place.kubectl("get", "namespaces", "--field-selector=status.phase=Active", "-o", "name")
    assert after == before
