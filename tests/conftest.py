"""Fixtures of all tests, and what the summary says when cluster tests could not run."""

import os
from collections.abc import Generator, Iterator

import hypothesis
import pytest
from _pytest.terminal import TerminalReporter

from devcluster.cluster import Cluster
from tests.support import cluster as support

# Read when the library is imported, by whichever test comes first: no test talks to the outside.
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

# An example that takes 200 ms tells of a busy machine, not of our code.
hypothesis.settings.register_profile("unhurried", hypothesis.settings.default, deadline=None)
hypothesis.settings.load_profile("unhurried")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files begin first, so that no worker ends minutes after the others; then those that share clusters.

    Cluster tests get time: a limit includes the start of the cluster, which takes long on a busy machine.
    """
    files = {item.path for item in items if item.get_closest_marker("cluster")}
    items.sort(key=lambda item: (item.get_closest_marker("long") is None, item.path not in files))
    for item in items:
        if item.get_closest_marker("cluster") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(300))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Find or build the control plane before the first test: it takes minutes once, more than a test's timeout."""
    wanted = any(item.get_closest_marker("cluster") for item in session.items)
    if wanted and not session.config.option.collectonly:
        support.unavailable()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: TerminalReporter) -> Generator[None, None, None]:
    """Say last, after the list of skipped tests, that cluster tests are among them."""
    yield
    reasons = [
        str(report.longrepr[2]).removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple) and support.NO_CONTROL_PLANE in str(report.longrepr[2])
    ]
    if reasons:
        terminalreporter.write_line(
            f"CLUSTER TESTS DID NOT RUN: {len(reasons)} skipped, {reasons[0]}", yellow=True
        )


@pytest.fixture(scope="session")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[support.Clusters]:
    with support.Clusters(tmp_path_factory) as clusters:
        yield clusters


@pytest.fixture(scope="module", autouse=True)
def end_clusters(request: pytest.FixtureRequest, clusters: support.Clusters) -> None:
    """An idle cluster takes a tenth of a core: none runs beside the files that come after its own."""
    if not any(
        item.path == request.path for item in request.session.items if item.get_closest_marker("cluster")
    ):
        clusters.end()


@pytest.fixture(scope="module")
def control_plane(clusters: support.Clusters) -> Cluster:
    """etcd, API server, controller manager and scheduler, with our resource definitions and no nodes."""
    return clusters.get("control-plane", defined=True)


@pytest.fixture(scope="module")
def cluster(clusters: support.Clusters) -> Cluster:
    """A control plane with two process nodes of two simulated GPUs each, with our definitions, no operator."""
    return clusters.get("cluster", nodes=2, gpus=2, defined=True)


@pytest.fixture(scope="module")
def operator_cluster(clusters: support.Clusters) -> Cluster:
    """What `python -m devcluster up` makes: three nodes of two simulated GPUs, the operator installed by Helm."""
    return clusters.get("operator", nodes=3, gpus=2, operator=True)
