"""Fixtures of all tests, and what the summary says when cluster tests could not run."""

import os
import signal
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from _pytest.terminal import TerminalReporter

from tests.support import cluster as support
from tests.support.descriptors import page_files
from tests.support.foreign import OPT_IN, Foreign, wanted

# What several tests share explains its failures as tests do.
pytest.register_assert_rewrite("tests.support.enginesuite", "tests.support.forkserver")

# Read when the library is imported, by whichever test comes first: no test talks to the outside.
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

# No deadline: an example that takes 200 ms tells of a busy machine, not of our code.
_UNHURRIED: dict[str, Any] = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("quick", derandomize=False, **_UNHURRIED)
# The same examples in every run: a change fails for what it changed, and what is red is red again.
hypothesis.settings.register_profile("ci", derandomize=True, print_blob=True, **_UNHURRIED)
# `make test-thorough`: always others, and many; the blob that a failure prints brings its example back anywhere.
hypothesis.settings.register_profile(
    "thorough", max_examples=1500, derandomize=False, print_blob=True, **_UNHURRIED
)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "quick")


FOREIGN = pytest.StashKey[Foreign | None]()


def pytest_configure(config: pytest.Config) -> None:
    """Find the cluster of `KUBECONFIG` if the run is meant for it, and say which it is before using it."""
    if (
        signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    ):  # as in a script's background: programs would inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[FOREIGN] = None
    if not wanted(os.environ):
        return
    if config.getoption("numprocesses", None):
        raise pytest.UsageError(f"{OPT_IN}=kubeconfig is for one worker: run without -n")
    folder = tempfile.TemporaryDirectory()
    config.add_cleanup(folder.cleanup)
    found = config.stash[FOREIGN] = Foreign(Path(folder.name), os.environ)
    sys.stderr.write(f"cluster tests use the context {found.context} ({found.server}), as {OPT_IN} says\n")


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
    cluster_tests = any(item.get_closest_marker("cluster") for item in session.items)
    if cluster_tests and not session.config.option.collectonly and session.config.stash[FOREIGN] is None:
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


@pytest.fixture(scope="module", autouse=True)
def end_pages() -> Iterator[None]:
    """Pages that a file's tests leave open are a fault, and would fail whichever file counts them next."""
    before = page_files(collect=False)
    yield
    if page_files(collect=False) > before:
        assert page_files() <= before, "pages are open that nobody uses any more"


@pytest.fixture(scope="session")
def places(clusters: support.Clusters, pytestconfig: pytest.Config) -> Iterator[support.Places]:
    """Where tests find what they need: in devclusters, or in the cluster of `KUBECONFIG`."""
    foreign = pytestconfig.stash[FOREIGN]
    yield support.Places(clusters, foreign)
    if foreign is not None:
        foreign.tidy()


@pytest.fixture(scope="module")
def control_plane(places: support.Places) -> support.Place:
    """An API server and its controllers, with our resource definitions."""
    return places.control_plane()


@pytest.fixture(scope="module")
def cluster(places: support.Places) -> support.Place:
    """Process nodes with simulated GPUs, and our definitions."""
    return places.simulated_gpus()


@pytest.fixture(scope="module")
def ipv6_cluster(places: support.Places) -> support.Place:
    """Process nodes of which the last one, `gpu-b`, gives its pods an address of IPv6."""
    return places.ipv6()


@pytest.fixture(scope="module")
def pod_cluster(places: support.Places) -> support.Place:
    """Any nodes that run our pods, and our definitions."""
    return places.pods()


@pytest.fixture(scope="module")
def empty_cluster(places: support.Places) -> support.Place:
    """An API server and its controllers, with nothing of ours."""
    return places.empty()
