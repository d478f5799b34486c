"""What a kubelet changes of the kernel's settings is given back by the last node, and what others changed stays."""

from pathlib import Path

import pytest

from devcluster.container import kernel
from devcluster.machine.network import NodeNetwork

BEFORE = {
    "vm/overcommit_memory": "0",
    "vm/panic_on_oom": "0",
    "kernel/panic": "0",
    "kernel/panic_on_oops": "0",
    "kernel/keys/root_maxkeys": "200",
    "kernel/keys/root_maxbytes": "20000",
}


def settings(root: Path) -> dict[str, str]:
    return {name: (root / name).read_text().strip() for name in kernel.CHANGED}


def write(root: Path, values: dict[str, str]) -> None:
    for name, value in values.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{value}\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path / "sys", BEFORE)
    return tmp_path / "sys"


def test_what_a_kubelet_changed_is_as_before(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "kernel.json"
    kernel.keep(file, root)
    write(root, kernel.CHANGED)
    kernel.keep(file, root)  # a second node sees what the first one's kubelet wrote
    kernel.give_back(file, root)
    assert settings(root) == BEFORE
    assert [path.name for path in tmp_path.iterdir()] == ["sys"]
    kernel.give_back(file, root)


def test_what_somebody_else_set_meanwhile_stays(root: Path, tmp_path: Path) -> None:
    kernel.keep(tmp_path / "kernel.json", root)
    write(root, kernel.CHANGED | {"kernel/panic": "30"})
    kernel.give_back(tmp_path / "kernel.json", root)
    assert settings(root) == BEFORE | {"kernel/panic": "30"}


def test_nodes_share_the_file_and_none_has_it_in_its_folder() -> None:
    assert NodeNetwork(1).kernel == NodeNetwork(2).kernel
    assert not NodeNetwork(1).kernel.is_relative_to(NodeNetwork(1).folder)
