from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devcluster.kube import model
from devcluster.kube.model import Container, Pod
from devcluster.node.decide import podspec
from devcluster.node.decide.images import Programs
from devcluster.node.decide.podspec import ConfigError, Context, File, Needs, Token


def make_pod(container: dict | None = None, **spec: object) -> Pod:
    containers = [{"name": "main", "image": "x", **(container or {})}]
    metadata = {
        "name": "reader-1",
        "namespace": "docs",
        "uid": "u-1",
        "labels": {"app": "reader"},
        "annotations": {"example.com/gpu": "GPU-7", "text": 'say "hi"\n'},
    }
    return model.pod({"metadata": metadata, "spec": {"containers": containers, **spec}})


def make_context(pod: Pod, **objects: dict) -> Context:
    return Context(pod=pod, node_name="gpu-a", host_ip="127.1.3.254", pod_ip="127.1.3.1", **objects)


def environment(container: dict, base: dict | None = None, /, **objects: dict) -> dict[str, str]:
    pod = make_pod(container)
    return podspec.environment(pod.spec.containers[0], make_context(pod, **objects), base or {})


def reference(path: str) -> dict:
    return {"valueFrom": {"fieldRef": {"fieldPath": path}}}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "reader-1"),
        ("metadata.namespace", "docs"),
        ("metadata.uid", "u-1"),
        ("metadata.labels['app']", "reader"),
        ("metadata.annotations['example.com/gpu']", "GPU-7"),
        ("metadata.annotations['absent']", ""),
        ("metadata.annotations", 'example.com/gpu="GPU-7"\ntext="say \\"hi\\"\\n"'),
        ("spec.nodeName", "gpu-a"),
        ("spec.serviceAccountName", "default"),
        ("status.podIP", "127.1.3.1"),
        ("status.hostIP", "127.1.3.254"),
    ],
)
def test_field_references_read_the_pod(path: str, value: str) -> None:
    assert environment({"env": [{"name": "V", **reference(path)}]}) == {"V": value}


def test_unknown_field_reference_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"status\.color"):
        environment({"env": [{"name": "V", **reference("status.color")}]})


def test_resource_field_reference_is_refused_by_variable() -> None:
    with pytest.raises(ConfigError, match="variable CPUS"):
        environment(
            {"env": [{"name": "CPUS", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}]}
        )


def test_variables_refer_to_earlier_ones_only() -> None:
    env = [
        {"name": "A", "value": "$(B)/$(HOST)"},
        {"name": "B", "value": "b"},
        {"name": "C", "value": "$(A) $(B) $$(B) $(UNKNOWN) $B"},
    ]
    assert environment({"env": env}, {"HOST": "h"}) == {
        "HOST": "h",
        "A": "$(B)/h",
        "B": "b",
        "C": "$(B)/h b $(B) $(UNKNOWN) $B",
    }


def test_env_wins_over_env_from_and_both_over_the_nodes() -> None:
    container = {
        "envFrom": [{"prefix": "P_", "configMapRef": {"name": "cm"}}, {"secretRef": {"name": "s"}}],
        "env": [{"name": "KEY", "value": "own"}],
    }
    found = environment(
        container,
        {"KEY": "node", "HOME": "/h"},
        config_maps={"cm": {"a": b"1"}},
        secrets={"s": {"KEY": b"secret", "OTHER": b"o"}},
    )
    assert found == {"KEY": "own", "HOME": "/h", "P_a": "1", "OTHER": "o"}


@pytest.mark.parametrize("kind", ["secretKeyRef", "configMapKeyRef"])
def test_missing_key_is_an_error_unless_optional(kind: str) -> None:
    objects: dict[str, dict] = {"secrets": {"there": {"a": b"1"}}, "config_maps": {"there": {"a": b"1"}}}

    def variable(**ref: object) -> dict:
        return {"env": [{"name": "V", "valueFrom": {kind: ref}}]}

    assert environment(variable(name="there", key="a"), **objects) == {"V": "1"}
    assert environment(variable(name="there", key="b", optional=True), **objects) == {}
    assert environment(variable(name="gone", key="b", optional=True), **objects) == {}
    with pytest.raises(ConfigError, match=r"couldn't find key b in \w+ \"there\""):
        environment(variable(name="there", key="b"), **objects)
    with pytest.raises(ConfigError, match='"gone" not found'):
        environment(variable(name="gone", key="b"), **objects)


def test_needs_name_everything_a_pod_refers_to() -> None:
    pod = make_pod(
        {
            "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s1", "key": "k"}}}],
            "envFrom": [{"configMapRef": {"name": "c1"}}],
        },
        volumes=[
            {"name": "v1", "secret": {"secretName": "s2"}},
            {
                "name": "v2",
                "projected": {
                    "sources": [
                        {"configMap": {"name": "c2"}},
                        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                    ]
                },
            },
        ],
    )
    assert podspec.environment_needs(pod.spec.containers[0]) == Needs(frozenset({"s1"}), frozenset({"c1"}))
    assert podspec.volume_needs(pod) == Needs(
        frozenset({"s2"}), frozenset({"c2"}), frozenset({Token("", 3607)})
    )


def volume_files(volume: dict, **objects: dict) -> dict[str, File] | None:
    pod = make_pod(volumes=[{"name": "v", **volume}])
    return podspec.volume_files(pod.spec.volumes[0], make_context(pod, **objects))


def test_secret_volume_shows_all_keys_or_the_chosen_ones() -> None:
    secrets = {"s": {"a": b"1", "b": b"\xff"}}
    assert volume_files({"secret": {"secretName": "s"}}, secrets=secrets) == {
        "a": File(b"1"),
        "b": File(b"\xff"),
    }
    items = [{"key": "b", "path": "deep/b.bin", "mode": 0o400}]
    assert volume_files(
        {"secret": {"secretName": "s", "items": items, "defaultMode": 0o440}}, secrets=secrets
    ) == {"deep/b.bin": File(b"\xff", 0o400)}
    with pytest.raises(ConfigError, match='secret "s" not found'):
        volume_files({"secret": {"secretName": "s"}})
    assert volume_files({"secret": {"secretName": "s", "optional": True}}) == {}


def test_downward_volume_shows_an_annotation() -> None:
    item = {"path": "gpu", "fieldRef": {"fieldPath": "metadata.annotations['example.com/gpu']"}}
    assert volume_files({"downwardAPI": {"items": [item]}}) == {"gpu": File(b"GPU-7")}


def test_projected_volume_is_the_sum_of_its_sources() -> None:
    sources = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {"configMap": {"name": "root", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]
    files = volume_files(
        {"projected": {"sources": sources, "defaultMode": 0o420}},
        config_maps={"root": {"ca.crt": b"PEM"}},
        tokens={Token("", 3607): "ey"},
    )
    assert files == {
        "token": File(b"ey", 0o420),
        "ca.crt": File(b"PEM", 0o420),
        "namespace": File(b"docs", 0o420),
    }


def test_persistent_volume_is_refused_with_a_way_out() -> None:
    with pytest.raises(ConfigError, match="emptyDir or hostPath"):
        volume_files({"persistentVolumeClaim": {"claimName": "c"}})


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../b", "."])
def test_a_path_never_leaves_its_volume(path: str) -> None:
    item = {"path": path, "fieldRef": {"fieldPath": "metadata.name"}}
    with pytest.raises(ConfigError, match="leaves its volume"):
        volume_files({"downwardAPI": {"items": [item]}})


def test_mounts_know_sub_paths() -> None:
    container = make_pod(
        {
            "volumeMounts": [
                {"name": "v", "mountPath": "/etc/app/"},
                {"name": "v", "mountPath": "/data", "subPath": "a/b"},
                {"name": "v", "mountPath": "/mine", "subPathExpr": "$(POD)"},
            ]
        }
    ).spec.containers[0]
    places = podspec.mounted_at(container.volume_mounts, {"v": "/root/v"}, {"POD": "p"})
    assert places == {"/etc/app": "/root/v", "/data": "/root/v/a/b", "/mine": "/root/v/p"}
    with pytest.raises(ConfigError, match="names no volume"):
        podspec.mounted_at(container.volume_mounts, {}, {})


PLACES = {"/tmp": "/tmp/node/tmp", "/etc/app": "/tmp/node/app", "/etc/app/deep": "/tmp/node/deep"}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("/etc/app", "/tmp/node/app"),
        ("/etc/app/config.yaml", "/tmp/node/app/config.yaml"),
        ("/etc/app/deep/x", "/tmp/node/deep/x"),
        ("--config=/etc/app/config.yaml", "--config=/tmp/node/app/config.yaml"),
        ("cat /tmp/x > '/etc/app/y'", "cat /tmp/node/tmp/x > '/tmp/node/app/y'"),
        ("a:/tmp:/etc/app/b", "a:/tmp/node/tmp:/tmp/node/app/b"),
        ("/etc/application", "/etc/application"),
        ("/etc/app.yaml", "/etc/app.yaml"),
        ("/var/tmp/x", "/var/tmp/x"),
        ("https://host/etc/app", "https://host/etc/app"),
        ("./etc/app", "./etc/app"),
    ],
)
def test_mount_paths_are_rewritten_only_where_they_are_paths(text: str, result: str) -> None:
    assert podspec.rewrite(text, PLACES) == result


def test_a_longer_place_protects_what_lies_in_it() -> None:
    places = {"/tmp": "/tmp/node/tmp", "/tmp/node": "/tmp/node"}
    assert podspec.rewrite("/tmp/x:/tmp/node/home", places) == "/tmp/node/tmp/x:/tmp/node/home"


@given(st.text())
def test_rewriting_happens_once_however_places_look(text: str) -> None:
    assert podspec.rewrite(f"/tmp/{text}", {"/tmp": "/tmp/tmp"}).startswith("/tmp/tmp/")
    assert podspec.rewrite(text, {}) == text


def test_command_rewrites_words_variables_and_folder() -> None:
    container = Container(name="c", working_dir="/etc/app")
    command = podspec.command(["run", "/etc/app/x"], container, {"CONFIG": "/etc/app/y"}, PLACES, "/home")
    assert command == podspec.Command(
        ["run", "/tmp/node/app/x"], {"CONFIG": "/tmp/node/app/y"}, "/tmp/node/app"
    )
    assert podspec.command(["run"], Container(name="c"), {}, {}, "/home").folder == "/home"


def test_a_checkout_below_a_mount_keeps_its_programs() -> None:
    programs = Programs(Path("/tmp/clone/.venv/bin"))
    places = {"/tmp": "/node/tmp"} | {folder: folder for folder in programs.folders}
    [server, *_] = programs.entrypoints()["ocr-inference"]
    assert podspec.rewrite(server, places) == server
    assert podspec.rewrite("/tmp/clone.txt", places) == "/node/tmp/clone.txt"
