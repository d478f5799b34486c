"""What a real node's programs are told: addresses of its block, nothing outside its folder, nobody let in."""

import json
import tarfile
import tomllib
from pathlib import Path

import pytest

from devcluster.container import configuration, images, requirements
from devcluster.controlplane.components import ControlPlane
from devcluster.machine.addresses import Block
from devcluster.machine.layout import Identity, Layout, State
from devcluster.machine.network import NodeNetwork
from devcluster.tools.toolbox import ControlPlaneTools

NETWORK = NodeNetwork(77)
FOLDER = "/var/lib/ocr-devcluster/77"


def test_containerd_keeps_to_its_folder_and_names_no_registry() -> None:
    told = tomllib.loads(configuration.containerd(NETWORK, Path("/shim")))
    assert {told["root"], told["state"]} == {f"{FOLDER}/containerd", f"{FOLDER}/state"}
    assert told["grpc"]["address"] == str(configuration.socket(NETWORK))
    assert len(told["grpc"]["address"]) < 100, "a socket's name may have 108 bytes"
    runtime = told["plugins"]["io.containerd.cri.v1.runtime"]
    assert runtime["cni"]["conf_dir"] == f"{FOLDER}/cni"
    assert runtime["netns_mounts_under_state_dir"]
    assert "registry" not in configuration.containerd(NETWORK, Path("/shim"))


def test_pods_have_addresses_of_the_bridge_and_reach_cluster_ips_by_the_node() -> None:
    [bridge] = json.loads(configuration.cni(NETWORK))["plugins"]
    assert bridge["bridge"] == NETWORK.bridge == "ocr77"
    [[subnet]] = bridge["ipam"]["ranges"]
    assert subnet == {"subnet": "10.244.77.0/24", "gateway": NETWORK.node}
    assert not bridge["ipMasq"], "nothing leaves the machine"
    assert ("ip", "route", "add", "local", "10.96.77.0/24", "dev", "lo") in NETWORK.commands_up()


def test_what_is_set_up_is_taken_away() -> None:
    made = {command[1] for command in NETWORK.commands_up() if command[2] == "add"} - {"address"}
    assert {command[1] for command in NETWORK.commands_down()} == made


def test_kubelet_lets_nobody_in_without_a_certificate() -> None:
    told = json.loads(configuration.kubelet(NETWORK, client_authority=Path("/a.crt")))
    assert told["authentication"]["anonymous"] == {"enabled": False}
    assert told["authentication"]["x509"] == {"clientCAFile": "/a.crt"}
    assert told["authorization"] == {"mode": "Webhook"}
    assert (told["address"], told["readOnlyPort"]) == (NETWORK.node, 0)
    assert told["cgroupRoot"] == NETWORK.cgroup
    assert told["makeIPTablesUtilChains"] is False, "no firewall is touched"
    command = configuration.kubelet_command(Path("/kubelet"), NETWORK, "gpu-a", Path("/k"))
    assert {f"--root-dir={FOLDER}/kubelet", "--hostname-override=gpu-a", "--kubeconfig=/k"} <= set(command)


def test_api_server_is_the_service_kubernetes_where_pods_have_a_network(tmp_path: Path) -> None:
    tools = ControlPlaneTools(*map(Path, ("/etcd", "/api", "/controllers", "/scheduler")))
    block = Block.claim()
    plan = ControlPlane.plan(Layout(tmp_path), tools, block, ("gpu-a",), network=NETWORK)
    assert plan.url == "https://10.96.77.1:443"
    command = plan.api_server.command
    assert "--service-cluster-ip-range=10.96.77.0/24" in command
    assert f"--kubelet-client-certificate={plan.kubelet_client[0]}" in command
    manager, _ = plan.controllers
    assert "--controllers=*" in manager.command, "endpoints of real addresses are made by Kubernetes itself"
    block.claim_socket.close()


def test_sandbox_image_is_the_program_alone(tmp_path: Path) -> None:
    program, archive = tmp_path / "program", tmp_path / "pause.tar"
    program.write_bytes(b"\x7fELF")
    images.pause_archive(program, archive)
    with tarfile.open(archive) as opened:
        [manifest] = json.loads(opened.extractfile("manifest.json").read())  # type: ignore[union-attr]
        assert manifest["RepoTags"] == [configuration.PAUSE_IMAGE]
        config = json.loads(opened.extractfile(manifest["Config"]).read())  # type: ignore[union-attr]
        with tarfile.open(fileobj=opened.extractfile("layer.tar")) as layer:
            assert [(each.name, each.mode) for each in layer] == [("pause", 0o755)]
    assert config["config"]["Entrypoint"] == ["/pause"]
    assert len(config["rootfs"]["diff_ids"]) == 1


def test_what_a_machine_lacks_is_said_with_the_way_out(tmp_path: Path) -> None:
    assert "root" in str(requirements.missing(user=1000))
    why = str(requirements.missing(user=0, path=str(tmp_path), plugins=tmp_path))
    assert why.endswith("apt-get install runc iproute2 openssl mount containernetworking-plugins")
    for name in ("runc", "ip", "openssl", "mount", "bridge", "host-local", "loopback"):
        (tmp_path / name).touch(mode=0o755)
    assert requirements.missing(user=0, path=str(tmp_path), plugins=tmp_path) is None


ALL = "Name:\tx\nCapEff:\t000001ffffffffff\n"
AS_IN_A_CONTAINER = "Name:\tx\nCapEff:\t00000000a80425fb\n"
OVERLAY = "nodev\toverlay\n\text4\n"


@pytest.mark.parametrize(
    ("process", "filesystems", "says"),
    [
        (ALL, OVERLAY, "None"),
        (
            AS_IN_A_CONTAINER,
            OVERLAY,
            "needs CAP_NET_ADMIN, CAP_SYS_ADMIN, which root of a container lacks",
        ),
        (ALL, "\text4\n", "needs overlay mounts"),
    ],
)
def test_what_no_installing_mends_is_said(process: str, filesystems: str, says: str, tmp_path: Path) -> None:
    why = requirements.forbidden(process=process, filesystems=filesystems, hierarchies=[tmp_path])
    assert says in str(why)


def test_machine_whose_cgroups_are_closed_can_be_no_node(tmp_path: Path) -> None:
    why = requirements.forbidden(process=ALL, filesystems=OVERLAY, hierarchies=[tmp_path / "absent"])
    assert f"can't write to {tmp_path / 'absent'}" in str(why)


@pytest.mark.parametrize("containers", [False, True])
def test_record_says_whether_there_is_more_to_give_back_than_processes(containers: bool) -> None:
    state = State("id", Identity(1, 1), "ready", "url", "127.77.0.0/16", containers=containers)
    assert state.node_network == (NETWORK if containers else None)
