"""Fixtures of devcluster's own tests: always a devcluster, also when other tests use the cluster of `KUBECONFIG`."""

import pytest

from devcluster.cluster import Cluster
from tests.support import cluster as support


@pytest.fixture(scope="module")
def control_plane(clusters: support.Clusters) -> Cluster:
    """etcd, API server, controller manager and scheduler, with our resource definitions and no nodes."""
    return clusters.get("control-plane", **support.CONTROL_PLANE)


@pytest.fixture(scope="module")
def cluster(clusters: support.Clusters) -> Cluster:
    """A control plane with two process nodes of two simulated GPUs each, with our definitions, no operator."""
    return clusters.get("cluster", nodes=2, gpus=2, defined=True)


@pytest.fixture(scope="module")
def operator_cluster(clusters: support.Clusters) -> Cluster:
    """What `python -m devcluster up` makes, with one node: the operator installed by Helm."""
    return clusters.get("operator", nodes=1, gpus=2, operator=True)
