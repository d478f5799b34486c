import io
import os
from pathlib import Path

import pytest

from devcluster.errors import ControlPlaneUnavailable
from devcluster.progress import Progress
from devcluster.tools import gobuild
from devcluster.tools import toolbox as tools
from devcluster.tools.modules import HELM3, KUBERNETES, MODULES
from devcluster.tools.toolbox import CONTROL_PLANE, HELM, Toolbox


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
    return Toolbox(defaults | environment, Progress(io.StringIO()), pins={})


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
        program(cache / KUBERNETES.key / name)
    assert toolbox(tmp_path).control_plane().etcd == cache / KUBERNETES.key / "etcd"


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
        for each in module.programs.values():
            assert each.package in pinned.split()
        assert (module.folder / "go.sum").is_file()


FAKE_GO = """#!/bin/sh
[ "$1" = build ] || exit 0
echo "$@" >> "$BUILDS"
echo "some/package" >&2
while [ "$1" != -o ]; do shift; done
out="$2"; shift 2
for package; do
  case "${package##*/}" in v[0-9]*) package="${package%/*}";; esac
  printf '#!/bin/sh\\n' > "$out/${package##*/}"
  chmod +x "$out/${package##*/}"
done
"""


def test_missing_programs_are_built_once(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "go", FAKE_GO)
    path = f"{tmp_path / 'bin'}:{os.defpath}"
    box = toolbox(tmp_path, PATH=path, BUILDS=str(tmp_path / "builds"))
    found = box.provide(("etcd",))
    assert found["etcd"].is_file()
    assert box.provide(("etcd",)) == found
    [build] = (tmp_path / "builds").read_text().splitlines()
    assert build.endswith(KUBERNETES.programs["etcd"].package)
    assert "-trimpath" in build
    names = sorted(path.name for path in found["etcd"].parents[1].iterdir())
    assert names == [KUBERNETES.key, "kubernetes.lock"], "no draft stays behind"


def test_what_would_have_to_be_got_is_known_before(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "go", FAKE_GO)
    program(tmp_path / "bin" / "helm")
    box = toolbox(tmp_path, PATH=f"{tmp_path / 'bin'}:/bin", BUILDS=str(tmp_path / "builds"))
    assert box.absent(CONTROL_PLANE, HELM) == list(CONTROL_PLANE)
    box.provide(CONTROL_PLANE, HELM)
    assert box.absent(CONTROL_PLANE, HELM) == []


def test_what_several_groups_lack_is_compiled_together(tmp_path: Path) -> None:
    """Helm and the control plane share most of their packages: one after the other, cores would wait for each."""
    program(tmp_path / "bin" / "go", FAKE_GO)
    program(tmp_path / "bin" / "kubectl")
    box = toolbox(tmp_path, PATH=f"{tmp_path / 'bin'}:/bin", BUILDS=str(tmp_path / "builds"))
    found = box.provide(CONTROL_PLANE, HELM, ("kubectl",))
    assert set(found) == {*CONTROL_PLANE, "helm", "kubectl"}
    assert all(path.is_file() for path in found.values())
    assert found["kubectl"] == tmp_path / "bin" / "kubectl"
    [build] = (tmp_path / "builds").read_text().splitlines()
    assert "kubectl" not in build
    assert not [each for each in HELM3.programs.values() if each.package in build.split()]


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
    draft = tools.cache_folder({"XDG_CACHE_HOME": str(tmp_path / "cache")}) / f".{KUBERNETES.key}.draft"
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
