"""What pods that were killed leave outside of the node's folder is found, and nothing of other nodes and programs."""

from pathlib import Path

from devcluster.container import traces
from devcluster.machine.network import NodeNetwork

POD = "f544bf082b179ee454b228cd08367aee89b19af9a4433ca3097f7881736df787"


def test_files_of_a_nodes_pods_are_found_and_those_of_others_are_not(tmp_path: Path) -> None:
    results, sockets = tmp_path / "results", tmp_path / "s"
    results.mkdir()
    ours = [f"ocr19-{POD}-eth0", f"cni-loopback-{POD}-lo"]
    for name in (*ours, f"ocr198-{POD}-eth0", "ocr198-b-eth0", "cni-loopback-b-lo", "bridge-b-eth0"):
        (results / name).touch()
    socket, *files = traces.files(NodeNetwork(19), results, sockets)
    assert {file.name for file in files} == set(ours)
    # The digest of /var/lib/ocr-devcluster/19/containerd.sock/k8s.io/ and the pod's number
    assert socket == sockets / "2fdad2ff780c4386dc8b1a19fd50b7e34d82a19b35bd5a48d17e13327b3976ee"


def test_without_pods_there_is_nothing(tmp_path: Path) -> None:
    assert traces.files(NodeNetwork(19), tmp_path / "results", tmp_path / "s") == []
