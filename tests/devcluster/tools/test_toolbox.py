import io
import os
from pathlib import Path

import pytest

from devcluster.errors import ControlPlaneUnavailable
from devcluster.progress import Progress
from devcluster.tools import gobuild
from devcluster.tools import toolbox as tools
from devcluster.tools.toolbox import CONTROL_PLANE, ETCD, KUBERNETES, MODULES, Toolbox


def program(path: Path, text: str = "#!/bin/sh\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def toolbox(tmp_path: Path, **environment: str) -> Toolbox:
    defaults = {
        "PATH": str(tmp_path / "bin"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "HOME": str(tmp_path),
    }
    return Toolbox(defaults | environment, Progress(io.StringIO()))


def test_assets_win_over_the_path(tmp_path: Path) -> None:
    for name in CONTROL_PLANE:
        program(tmp_path / "assets" / name)
        program(tmp_path / "bin" / name)
    found = toolbox(tmp_path, KUBEBUILDER_ASSETS=str(tmp_path / "assets")).control_plane()
    assert found.kube_scheduler == tmp_path / "assets" / "kube-scheduler"
    assert toolbox(tmp_path).control_plane().etcd == tmp_path / "bin" / "etcd"


def test_programs_of_two_places_are_not_mixed(tmp_path: Path) -> None:
    for name in CONTROL_PLANE[:3]:
        program(tmp_path / "assets" / name)
    program(tmp_path / "bin" / CONTROL_PLANE[3])
    assert toolbox(tmp_path, KUBEBUILDER_ASSETS=str(tmp_path / "assets")).find(CONTROL_PLANE) is None


def test_the_cache_comes_last(tmp_path: Path) -> None:
    cache = tools.cache_folder({"XDG_CACHE_HOME": str(tmp_path / "cache")})
    for name in CONTROL_PLANE:
        program(cache / (ETCD if name == "etcd" else KUBERNETES).key / name)
    assert toolbox(tmp_path).control_plane().etcd == cache / ETCD.key / "etcd"


def test_the_cache_folder_ignores_a_relative_setting() -> None:
    expected = Path("/home/x/.cache/ocr-operator/devcluster")
    assert tools.cache_folder({"XDG_CACHE_HOME": "relative", "HOME": "/home/x"}) == expected


def test_keys_name_the_module_and_differ() -> None:
    keys = [module.key for module in MODULES]
    assert len(set(keys)) == len(MODULES)
    assert all(key.startswith(module.name) for key, module in zip(keys, MODULES, strict=True))


def test_every_program_is_pinned_as_a_tool_of_its_module() -> None:
    for module in MODULES:
        pinned = (module.folder / "go.mod").read_text()
        for package in module.packages.values():
            assert package in pinned.split()
        assert (module.folder / "go.sum").is_file()


FAKE_GO = """#!/bin/sh
[ "$1" = build ] || exit 0
echo "$@" >> "$BUILDS"
echo "some/package" >&2
while [ "$1" != -o ]; do shift; done
printf '#!/bin/sh\\n' > "$2/server"
chmod +x "$2/server"
"""


def test_missing_programs_are_built_once(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "go", FAKE_GO)
    path = f"{tmp_path / 'bin'}:{os.defpath}"
    box = toolbox(tmp_path, PATH=path, BUILDS=str(tmp_path / "builds"))
    found = box.provide(("etcd",))
    assert found["etcd"].is_file()
    assert box.provide(("etcd",)) == found
    [build] = (tmp_path / "builds").read_text().splitlines()
    assert build.endswith(ETCD.packages["etcd"])
    assert "-trimpath" in build
    names = sorted(path.name for path in found["etcd"].parents[1].iterdir())
    assert names == [ETCD.key, "etcd.lock"], "no draft stays behind"


@pytest.mark.parametrize(
    ("package", "name"),
    [
        ("k8s.io/kubernetes/cmd/kubectl", "kubectl"),
        ("go.etcd.io/etcd/server/v3", "server"),
        ("a.b/c/vault", "vault"),
    ],
)
def test_programs_are_called_as_go_calls_them(package: str, name: str) -> None:
    assert gobuild.program_name(package) == name


def test_a_killed_builds_draft_is_cleared_away(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "go", FAKE_GO)
    draft = tools.cache_folder({"XDG_CACHE_HOME": str(tmp_path / "cache")}) / f".{ETCD.key}.draft"
    program(draft / "half")
    box = toolbox(tmp_path, PATH=f"{tmp_path / 'bin'}:{os.defpath}", BUILDS=str(tmp_path / "builds"))
    assert [path.name for path in box.provide(("etcd",))["etcd"].parent.iterdir()] == ["etcd"]
    assert not draft.exists()


def test_a_failed_build_is_the_reason(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "go", "#!/bin/sh\necho 'go: no network' >&2\nexit 1\n")
    with pytest.raises(ControlPlaneUnavailable, match="go: no network"):
        toolbox(tmp_path).control_plane()


def test_without_go_and_without_pypi_there_is_a_reason_and_a_way_out(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "uv", "#!/bin/sh\necho 'no route to the index' >&2\nexit 1\n")
    with pytest.raises(ControlPlaneUnavailable, match=r"no route to the index.*KUBEBUILDER_ASSETS"):
        toolbox(tmp_path).control_plane()


def test_a_cache_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "go", FAKE_GO)
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(ControlPlaneUnavailable, match="XDG_CACHE_HOME"):
        toolbox(tmp_path).control_plane()
