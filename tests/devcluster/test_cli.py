import io
import os
from pathlib import Path

import pytest

from devcluster import cli
from devcluster.errors import DevclusterError
from devcluster.machine import processes
from devcluster.machine.layout import Identity, Layout, ProcessRecord, State
from tests.support.programs import without_programs


def run(*arguments: str) -> tuple[int, str]:
    output = io.StringIO()
    return cli.run(cli.parser().parse_args(arguments), output), output.getvalue()


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A folder whose supervisor is gone: no process has started at tick 1 since the machine booted with this number."""
    layout = Layout(tmp_path / "cluster")
    layout.create()
    State(
        id="a-mark-that-nobody-has",
        supervisor=Identity(2**22 + 1, 1),
        phase="ready",
        url="https://127.10.0.1:6443",
        network="127.10.0.0/16",
        processes=(ProcessRecord("etcd", Identity(2**22 + 2, 1), 3),),
    ).save(layout)
    layout.log("etcd").parent.mkdir()
    layout.log("etcd").write_text("the disk is full\n")
    return layout.directory


def test_defaults_are_those_of_the_documentation() -> None:
    up = cli.parser().parse_args(["up"])
    assert (*cli.sizes(up), up.operator, up.dir) == (3, 2, True, Path(".devcluster"))
    assert cli.sizes(cli.parser().parse_args(["up", "--runtime=containerd"])) == (1, 0)
    assert not cli.parser().parse_args(["up", "--no-operator"]).operator


def test_machine_that_can_be_no_real_node_is_told_so_before_programs_are_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(without_programs(tmp_path)))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    with pytest.raises(DevclusterError, match="a node with containers needs"):
        run("up", "--runtime=containerd", "--dir", str(tmp_path / "cluster"))


def test_without_a_cluster_there_is_nothing_to_tell_or_end(tmp_path: Path) -> None:
    assert run("status", "--dir", str(tmp_path)) == (1, f"No cluster in {tmp_path}\n")
    assert run("down", "--dir", str(tmp_path)) == (0, f"No cluster in {tmp_path}\n")


def test_the_status_of_a_killed_cluster_says_what_to_do(killed: Path) -> None:
    code, text = run("status", "--dir", str(killed))
    assert code == 1
    assert "its supervisor was killed: run `down` or `up`" in text
    assert "ended with 3: python -m devcluster logs etcd" in text


def test_down_clears_away_a_killed_cluster(killed: Path) -> None:
    assert run("down", "--dir", str(killed))[0] == 0
    assert not killed.exists()


def test_logs_are_listed_and_printed(killed: Path) -> None:
    assert run("logs", "--dir", str(killed)) == (0, "etcd\n")
    assert run("logs", "etcd", "--dir", str(killed)) == (0, "the disk is full\n")


@pytest.mark.parametrize("name", ["etc", "../state", "/etc/passwd"])
def test_a_log_that_is_not_there_is_refused_with_those_that_are(killed: Path, name: str) -> None:
    with pytest.raises(DevclusterError, match="there are: etcd"):
        run("logs", name, "--dir", str(killed))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--nodes", "27"], "27 nodes: a cluster has 0 to 26"), (["--gpus", "65"], "65 GPUs")],
)
def test_impossible_sizes_are_refused_before_anything_starts(
    tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["up", "--dir", str(tmp_path / "c"), *arguments]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_the_status_of_a_running_cluster_says_where_services_are(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "cluster")
    layout.create()
    us = processes.identify(os.getpid())
    assert us is not None
    State(id="x", supervisor=us, phase="ready", url="https://127.10.0.1:6443", network="127.10.0.0/16").save(
        layout
    )
    assert "service" not in run("status", "--dir", str(layout.directory))[1]
    layout.services.write_text('{"default/invoices": ["127.10.128.7:8001"]}')
    code, text = run("status", "--dir", str(layout.directory))
    assert code == 0
    assert "service default/invoices 127.10.128.7:8001" in text
