from dataclasses import replace
from pathlib import Path

import pytest

from devcluster.controlplane.components import ControlPlane
from devcluster.machine.addresses import Block
from devcluster.machine.layout import Layout
from devcluster.tools.toolbox import ControlPlaneTools


@pytest.fixture
def plan(tmp_path: Path) -> ControlPlane:
    tools = ControlPlaneTools(
        *(Path("/tools") / name for name in ("etcd", "api", "controllers", "scheduler"))
    )
    block = Block.claim(range(215, 225))
    block.claim_socket.close()
    layout = Layout(tmp_path / "cluster")
    layout.create()
    return ControlPlane.plan(layout, tools, block, ("gpu-a",))


def test_only_the_api_server_listens_on_the_network(plan: ControlPlane) -> None:
    listening = [flag for flag in plan.etcd.command if "listen" in flag]
    assert listening
    assert all("=unix://" in flag for flag in listening)
    assert f"--bind-address={plan.address}" in plan.api_server.command
    for component in plan.controllers:
        assert "--secure-port=0" in component.command


def test_secrets_are_readable_by_their_owner_alone(plan: ControlPlane) -> None:
    plan.write_secrets()
    plan.layout.certificates.mkdir()
    plan.layout.authority.write_text("PEM")
    plan.write_kubeconfigs()
    files = [plan.layout.kubeconfig, *(plan.layout.directory / "credentials").iterdir()]
    assert len(files) == 6
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert plan.layout.credentials("gpu-a") in files


def test_nodes_that_a_client_plays_may_be_silent(plan: ControlPlane) -> None:
    flag = "--node-monitor-grace-period=3600s"
    manager, scheduler = replace(plan, node_grace_seconds=3600).controllers
    assert flag in manager.command
    assert not any("grace" in each for each in (*scheduler.command, *plan.controllers[0].command))


def test_nodes_and_tokens_are_authorized_as_on_a_real_cluster(plan: ControlPlane) -> None:
    command = plan.api_server.command
    assert "--authorization-mode=Node,RBAC" in command
    assert "--enable-admission-plugins=NodeRestriction" in command
