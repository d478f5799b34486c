"""Two releases in two namespaces, each with Roles there and no right to anything of the cluster."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from devcluster.errors import DevclusterError
from ocr_wire import names
from tests.support import account, charts
from tests.support import cluster as support
from tests.support.chart_docs import CHART
from tests.support.operators import Local, Operator
from tests.support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

ACCOUNT = "ocr-operator"


def granted(place: support.Place, namespace: str, folder: Path) -> support.Place:
    """The cluster as the operator's ServiceAccount may see it, after the chart's roles for it are there."""
    values = {
        "watchNamespaces": [namespace],
        "rbac": {"clusterWide": False, "aggregateToDefaultRoles": False},
        "crds": {"enabled": False},
        "unknownTemplateFields": "Ignore",
        "fullnameOverride": ACCOUNT,
    }
    folder.mkdir()
    done = charts.run(folder, "template", "alone", str(CHART), "--namespace", namespace, values=values)
    assert done.returncode == 0, done.stderr
    rights = [
        each
        for each in yaml.safe_load_all(done.stdout)
        if each
        and each["kind"] in ("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
    ]
    for each in rights:
        place.kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(each))
    return account.of(place, ACCOUNT, namespace, folder)


@pytest.fixture
def releases(cluster: support.Place, tmp_path: Path) -> Iterator[list[tuple[Operator, support.Place, Local]]]:
    if cluster.operator is not None:
        pytest.skip(f"the operator {cluster.operator} watches all namespaces of this cluster")
    with ExitStack() as stack:
        found = []
        for name in ("one", "two"):
            namespace = stack.enter_context(cluster.namespace(name))
            rights = granted(cluster, namespace, tmp_path / name)
            process = Local(
                rights,
                namespace,
                tmp_path / f"{name}.log",
                cluster_access="none",
                identity=f"{namespace}/{ACCOUNT}",
                lease=f"{namespace}/{ACCOUNT}-leader",
                exporter_namespace=namespace,
                pod_name=name,
            )
            stack.callback(process.close)
            found.append((Operator(cluster, namespace, process), rights, process))
        yield found


def test_two_releases_work_with_roles_alone(releases: list[tuple[Operator, support.Place, Local]]) -> None:
    for ours, rights, _ in releases:
        with pytest.raises(DevclusterError, match="no"):
            rights.kubectl("auth", "can-i", "list", "nodes")
        ours.start()
        ours.apply(replicas=2, gpu={"sharing": "exclusive"})
        ours.apply("pinned", replicas=1, gpu={"sharing": "shared"})
    for ours, _, process in releases:
        works_by_itself(ours)
        said = process.log.read_text(encoding="utf-8")
        assert "forbidden" not in said
        assert "watch lost" not in said


def works_by_itself(ours: Operator) -> None:
    until(lambda: ours.holds("Ready") and ours.holds("ConfigApplied"), 120, what="pods serve")
    placed = [each["metadata"]["annotations"][names.ANNOTATION_PLACEMENT] for each in ours.pods().values()]
    assert all("may not read nodes" in each for each in placed)

    def placing() -> str:
        found = json.loads(ours.kubectl("get", "ocr", "pinned", "-o", "json")).get("status", {})
        conditions = {each["type"]: each for each in found.get("conditions", ())}
        return "{reason}: {message}".format(**conditions["Placed"]) if "Placed" in conditions else ""

    until(
        lambda: "NodesNotRead: " in placing() and "gpu.sharing: shared needs nodes" in placing(),
        what="the refusal is told",
    )
    ours.apply(replicas=2, gpu={"sharing": "exclusive"}, idle={"offloadAfterSeconds": 7})
    until(lambda: ours.holds("ConfigApplied"), what="a live change counts")
