"""What a resource becomes. Golden pairs show whole manifests, the other tests say what must hold for any
resource.
"""

import base64
import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.decide import manifests, placement, rollouts
from ocr_operator.resources import live_settings, observed, policies
from ocr_operator.resources import spec as specs
from ocr_wire import names
from ocr_wire.live_settings import digest
from tests.support import crd_docs, resources
from tests.support.observations import raw_pod
from tests.support.paths import ROOT

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
GOLDEN = ROOT / "tests" / "golden"
TOKEN = "golden-token"
DEFAULTS = manifests.Defaults(image="ghcr.io/ocr-operator/ocr-inference:golden")


def make_pod(**spec: Any) -> dict[str, Any]:
    """The pod template's spec of a resource."""
    pod: dict[str, Any] = make_deployment_spec(**spec)["template"]["spec"]
    return pod


def make_deployment_spec(**spec: Any) -> dict[str, Any]:
    made: dict[str, Any] = desired(resources.make_deployment(**spec))["Deployment invoices"]["spec"]
    return made


def desired(resource: specs.OcrDeployment) -> dict[str, dict[str, Any]]:
    made = manifests.desired(resource, DEFAULTS, TOKEN)
    return {f"{each['kind']} {each['metadata']['name']}": each for each in made}


def container(pod: dict[str, Any], name: str = "ocr-inference") -> dict[str, Any]:
    [found] = [each for each in pod["containers"] if isinstance(each, dict) and each.get("name") == name]
    assert isinstance(found, dict)
    return found


def env(pod: dict[str, Any]) -> dict[str, Any]:
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container(pod)["env"]}


class Plain(yaml.SafeDumper):
    """YAML without anchors: each manifest reads by itself."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


CASES = sorted((GOLDEN / "input").glob("*.yaml"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_golden(case: Path) -> None:
    parsed = specs.parse(yaml.safe_load(case.read_text(encoding="utf-8")))
    assert isinstance(parsed, specs.OcrDeployment), parsed
    text = yaml.dump_all(manifests.desired(parsed, DEFAULTS, TOKEN), Dumper=Plain, sort_keys=True, width=110)
    output = GOLDEN / "output" / case.name
    if os.environ.get("UPDATE_GOLDEN"):
        output.write_text(text, encoding="utf-8")
    assert output.read_text(encoding="utf-8") == text


def test_golden_outputs_all_have_an_input() -> None:
    assert {path.name for path in (GOLDEN / "output").iterdir()} == {case.name for case in CASES}


def test_children_are_written_before_what_needs_them() -> None:
    assert list(desired(resources.make_deployment())) == [
        "Secret invoices-ocr-admin",
        "Service invoices",
        "Service invoices-all",
        "Deployment invoices",
    ]


def test_every_child_belongs_to_the_resource_and_bears_its_labels() -> None:
    for child in desired(resources.make_deployment()).values():
        [owner] = child["metadata"]["ownerReferences"]
        assert owner == {
            "apiVersion": "ocr-operator.io/v1alpha1",
            "kind": "OcrDeployment",
            "name": "invoices",
            "uid": "uid-of-invoices",
            "controller": True,
            "blockOwnerDeletion": True,
        }
        assert child["metadata"]["labels"][names.LABEL_DEPLOYMENT] == "invoices"
        assert child["metadata"]["labels"][names.LABEL_MANAGED_BY] == "ocr-operator"


def test_token_is_readable_by_the_pod_only_through_the_secret() -> None:
    children = desired(resources.make_deployment())
    secret = children.pop("Secret invoices-ocr-admin")
    assert base64.b64decode(secret["data"]["token"]) == TOKEN.encode()
    assert TOKEN not in json.dumps(children)


def test_services_select_the_pods_and_point_at_the_port_by_name() -> None:
    children = desired(resources.make_deployment(server={"port": 9000}))
    labels = children["Deployment invoices"]["spec"]["template"]["metadata"]["labels"]
    for name in ("Service invoices", "Service invoices-all"):
        spec = children[name]["spec"]
        assert spec["selector"].items() <= labels.items(), "also while no operator is there to label a pod"
        assert spec["ports"] == [{"name": "http", "port": 9000, "targetPort": "http", "protocol": "TCP"}]
    assert children["Service invoices"]["spec"]["selector"][names.LABEL_AWAKE] == "true"
    assert names.LABEL_AWAKE not in children["Service invoices-all"]["spec"]["selector"]
    assert "clusterIP" not in children["Service invoices"]["spec"]
    assert children["Service invoices-all"]["spec"]["clusterIP"] == "None"
    assert children["Service invoices-all"]["spec"]["publishNotReadyAddresses"] is True


@pytest.mark.parametrize("sharing", ["exclusive", "shared", "none"])
def test_pods_pass_the_restricted_level_of_pod_security(sharing: str) -> None:
    models = [{**resources.RAPIDOCR, "gpuMemory": "1Gi"}]
    pod = make_pod(models=models, gpu={"sharing": sharing}, server={"apiKeysSecretName": "keys"})
    security = container(pod)["securityContext"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["readOnlyRootFilesystem"] is True
    allowed = {"configMap", "downwardAPI", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
    assert {kind for volume in pod["volumes"] for kind in volume if kind != "name"} <= allowed
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()


def test_every_mount_has_its_volume() -> None:
    pod = make_pod(server={"apiKeysSecretName": "keys"})
    assert {mount["name"] for mount in container(pod)["volumeMounts"]} == {
        volume["name"] for volume in pod["volumes"]
    }


@pytest.mark.parametrize("sharing", ["exclusive", "shared", "none"])
def test_every_pod_waits_at_the_gate(sharing: str) -> None:
    pod = make_pod(models=[{**resources.RAPIDOCR, "gpuMemory": "1Gi"}], gpu={"sharing": sharing})
    assert pod["schedulingGates"] == [{"name": "ocr-operator.io/placement"}]


def test_exclusive_requests_one_device_and_pins_nothing() -> None:
    pod = make_pod(gpu={"resourceName": "nvidia.com/mig-1g.10gb"})
    assert container(pod)["resources"]["requests"]["nvidia.com/mig-1g.10gb"] == "1"
    assert container(pod)["resources"]["limits"] == {"nvidia.com/mig-1g.10gb": "1"}
    assert "NVIDIA_VISIBLE_DEVICES" not in env(pod), "the device plugin sets it"
    assert "runtimeClassName" not in pod
    assert [each["key"] for each in pod["tolerations"]] == ["nvidia.com/gpu", "nvidia.com/mig-1g.10gb"]


def test_shared_is_pinned_by_the_annotation_and_requests_no_device() -> None:
    """Such a request would make the device plugin override the pin."""
    pod = make_pod(models=[{**resources.RAPIDOCR, "gpuMemory": "1Gi"}], gpu={"sharing": "shared"})
    assert env(pod)["NVIDIA_VISIBLE_DEVICES"]["fieldRef"]["fieldPath"] == (
        "metadata.annotations['ocr-operator.io/gpu-uuids']"
    )
    assert pod["runtimeClassName"] == "nvidia"
    assert container(pod)["resources"].keys() == {"requests"}
    assert container(pod)["resources"]["requests"].keys() == {"cpu", "memory"}


def test_shared_with_the_default_runtime() -> None:
    models = [{**resources.RAPIDOCR, "gpuMemory": "1Gi"}]
    assert "runtimeClassName" not in make_pod(
        models=models, gpu={"sharing": "shared", "runtimeClassName": ""}
    )


def test_none_hides_gpus_and_goes_anywhere() -> None:
    pod = make_pod(gpu={"sharing": "none", "products": ["NVIDIA-L40S"]})
    assert env(pod)["OCR_DEVICE"] == "cpu"
    assert env(pod)["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert not {"tolerations", "affinity", "runtimeClassName"} & pod.keys()


def test_products_are_no_requirement_of_labels_that_change() -> None:
    """A kubelet that starts again ends running pods whose node has another product label than they require."""
    template = make_deployment_spec(gpu={"products": ["NVIDIA-L40S", "NVIDIA-A100"]})["template"]
    assert "affinity" not in template["spec"]
    assert template["metadata"]["annotations"][names.ANNOTATION_GPU_PRODUCTS] == "NVIDIA-A100,NVIDIA-L40S"
    without = make_deployment_spec(gpu={"sharing": "none", "products": ["NVIDIA-A100"]})["template"]
    assert names.ANNOTATION_GPU_PRODUCTS not in without["metadata"]["annotations"]


@pytest.mark.parametrize(
    "odd", [None, "x", [], {"nodeAffinity": "x"}, {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": ["x"]}}}]
)
def test_malformed_affinity_never_breaks_the_operator(odd: Any) -> None:
    make_pod(gpu={"products": ["NVIDIA-L40S"]}, template={"spec": {"affinity": odd}})


@pytest.mark.parametrize(
    ("sharing", "surge", "unavailable"), [("exclusive", 0, 1), ("shared", 0, 1), ("none", 1, 0)]
)
def test_roll_out_never_waits_for_a_gpu_that_the_old_pod_holds(
    sharing: str, surge: int, unavailable: int
) -> None:
    models = [{**resources.RAPIDOCR, "gpuMemory": "1Gi"}]
    strategy = make_deployment_spec(models=models, gpu={"sharing": sharing})["strategy"]
    assert strategy["rollingUpdate"] == {"maxSurge": surge, "maxUnavailable": unavailable}


def test_spelling_of_sizes_replaces_no_pod() -> None:
    one, other = (
        make_deployment_spec(models=[{**resources.RAPIDOCR, "gpuMemory": size}]) for size in ("1Gi", "1024Mi")
    )
    assert one == other


RELEASED = sorted((ROOT / "tests" / "frozen").glob("v*"))


@pytest.mark.parametrize("release", RELEASED, ids=lambda path: path.name)
def test_defaults_that_a_released_definition_wrote_into_resources_replace_no_pod(release: Path) -> None:
    """An older definition filled them in, the next one doesn't, or a person takes them out again: the same children."""
    definition = yaml.safe_load(
        (release / "chart" / "files" / "ocrdeployments.yaml").read_text(encoding="utf-8")
    )
    [version] = definition["spec"]["versions"]
    written = list(yaml.safe_load_all((release / "resources.yaml").read_text(encoding="utf-8")))
    filled = 0
    for body in (each for each in written if each["kind"] == names.KIND):
        body["metadata"] |= {"namespace": "default", "uid": "uid", "generation": 1}
        stored = crd_docs.stored(version["schema"]["openAPIV3Schema"], body)
        filled += any("dtype" not in each for each in body["spec"]["models"])
        both = [specs.parse(each) for each in (body, stored)]
        ours, theirs = (desired(each) for each in both if isinstance(each, specs.OcrDeployment))
        assert ours == theirs
        assert all("dtype" in each for each in stored["spec"]["models"])
    assert filled > 1


def test_image_of_the_resource_wins_over_the_default() -> None:
    assert container(make_pod())["image"] == DEFAULTS.image
    assert container(make_pod(server={"image": "ocr:mine"}))["image"] == "ocr:mine"


# --- the user's template
# ------------------------------------------------------------------------------------------


def template(**spec: Any) -> dict[str, Any]:
    return {"spec": spec}


@pytest.mark.parametrize("removal", [None, [], "none", {}, [{"name": "other"}], ["other"]])
def test_template_cannot_take_the_gate_or_the_container_away(removal: Any) -> None:
    pod = make_pod(template=template(schedulingGates=removal, containers=removal))
    assert {"name": "ocr-operator.io/placement"} in pod["schedulingGates"]
    assert container(pod)["args"][0] == "serve"


def test_template_replaces_a_variable_as_a_whole() -> None:
    """POD_NAME comes from a field; with a value merged into it the API server would refuse both."""
    change = {"name": "ocr-inference", "env": [{"name": "POD_NAME", "value": "me"}]}
    assert env(make_pod(template=template(containers=[change])))["POD_NAME"] == "me"


def test_template_is_not_changed_by_the_merge() -> None:
    spec = {"containers": [{"name": "app", "image": "app:1", "resources": {"limits": {"cpu": "1"}}}]}
    resource = resources.make_deployment(template={"spec": spec})
    before = json.dumps(spec)
    first, second = (desired(resource)["Deployment invoices"] for _ in range(2))
    container(first["spec"]["template"]["spec"], "app")["resources"]["limits"]["cpu"] = "9"
    assert json.dumps(resource.spec.template.spec) == before
    assert container(second["spec"]["template"]["spec"], "app")["resources"]["limits"]["cpu"] == "1"


def test_labels_and_annotations_of_the_template_are_added() -> None:
    metadata = {"labels": {"team": "billing"}, "annotations": {"note": "hello"}}
    made = make_deployment_spec(template={"metadata": metadata})["template"]["metadata"]
    assert made["labels"]["team"] == "billing"
    assert made["labels"][names.LABEL_DEPLOYMENT] == "invoices"
    assert made["annotations"]["note"] == "hello"
    assert json.loads(made["annotations"][names.ANNOTATION_CONFIG])["models"][0]["name"] == "pp-ocr"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab", max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "env", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
POD_FIELDS = st.sampled_from(
    ["containers", "schedulingGates", "volumes", "tolerations", "securityContext", "affinity"]
)


@given(st.dictionaries(POD_FIELDS, JSON))
def test_whatever_the_template_says_pods_are_gated_and_found(extra: dict[str, Any]) -> None:
    made = make_deployment_spec(template={"spec": extra})
    assert made["selector"]["matchLabels"].items() <= made["template"]["metadata"]["labels"].items()
    assert {"name": "ocr-operator.io/placement"} in made["template"]["spec"]["schedulingGates"]
    assert container(made["template"]["spec"])["name"] == "ocr-inference"


# --- live fields
# --------------------------------------------------------------------------------------------------

SECONDS = st.integers(-1, 31_536_000)
IDLE = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("offloadAfterSeconds", "exitAfterSeconds", "releaseAfterSeconds"), SECONDS),
)
LIVE = st.fixed_dictionaries(
    {},
    optional={
        "idle": IDLE,
        "batching": st.fixed_dictionaries(
            {}, optional={"maxPages": st.integers(1, 256), "maxWaitMilliseconds": st.integers(0, 10_000)}
        ),
        "queue": st.fixed_dictionaries(
            {},
            optional={
                "limit": st.integers(1, 10_000),
                "patienceSeconds": st.integers(0, 3600),
                "deadlineSeconds": st.integers(1, 86_400),
            },
        ),
        "logLevel": st.sampled_from(["debug", "info", "warning", "error"]),
        "routing": st.fixed_dictionaries({}, optional={"policy": st.sampled_from(["all", "warmFirst"])}),
    },
)
LIVE_MODEL = st.fixed_dictionaries(
    {}, optional={"idle": IDLE, "priority": st.integers(-1000, 1000), "preload": st.booleans()}
)


@given(LIVE, LIVE_MODEL, st.integers(1, 1000))
def test_no_live_field_enters_a_child(live: dict[str, Any], model: dict[str, Any], generation: int) -> None:
    """Not only the pod template: no child changes at all, so a live change writes nothing but annotations."""
    body = resources.make_body(**live)
    body["spec"]["models"][0] |= model
    body["metadata"]["generation"] = generation
    changed = specs.parse(body)
    assert isinstance(changed, specs.OcrDeployment), changed
    assert desired(changed) == desired(resources.make_deployment())


def test_a_live_change_is_a_change() -> None:
    """Guards the property above: the settings that pods are told do differ."""
    before, after = (resources.make_deployment(idle={"offloadAfterSeconds": each}) for each in (60, 5))
    assert digest(live_settings.values(before.spec)) != digest(live_settings.values(after.spec))


# --- the examples
# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_example_is_valid(path: Path) -> None:
    bodies = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    found = [each for each in bodies if each["kind"] == "OcrDeployment"]
    assert found or [each for each in bodies if policies.parse(each).rejection is None] == bodies
    for body in found:
        body["metadata"] |= {"namespace": "default", "uid": "u", "generation": 1}
        parsed = specs.parse(body)
        assert isinstance(parsed, specs.OcrDeployment), parsed
        assert len(desired(parsed)) == 4


@pytest.mark.parametrize(
    ("gpu", "kept"),
    [
        ({"sharing": "shared"}, False),
        ({"sharing": "claim"}, False),
        ({"sharing": "exclusive", "products": ["NVIDIA-L40S"]}, False),
        ({"sharing": "exclusive"}, False),
        ({"sharing": "none"}, True),
    ],
    ids=["shared", "claim", "products", "exclusive", "none"],
)
def test_pods_that_are_placed_by_name_leave_their_least_number_of_domains_to_placement(
    gpu: dict[str, Any], kept: bool
) -> None:
    asked = {
        "maxSkew": 1,
        "minDomains": 3,
        "topologyKey": "zone",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "x"}},
    }
    models = [{"name": "a", "engine": "rapidocr", "gpuMemory": "1Gi"}]
    template = {"spec": {"topologySpreadConstraints": [asked]}}
    resource = resources.make_deployment(models=models, gpu=gpu, template=template)
    pod = manifests.desired(resource, manifests.Defaults("i"), "t")[-1]["spec"]["template"]["spec"]
    [constraint] = pod["topologySpreadConstraints"]
    assert constraint == (asked if kept else {k: v for k, v in asked.items() if k != "minDomains"})

    raw = raw_pod(gated=True, topologySpreadConstraints=[constraint])
    [wanted] = placement.request(resource, observed.pod(raw)).spread
    assert (wanted.min_domains, wanted.topology_key) == (3, "zone")
    older = raw_pod(gated=True, topologySpreadConstraints=[constraint, {**constraint, "topologyKey": "host"}])
    parsed = observed.pod(older)
    assert placement.request(resource, parsed).spread == parsed.spread, "of another template"


def test_pull_secrets_of_the_operator_stand_beside_those_of_the_template() -> None:
    defaults = manifests.Defaults("i", image_pull_secrets=("registry", "mirror"))

    def secrets(**spec: Any) -> Any:
        made = manifests.desired(resources.make_deployment(**spec), defaults, "t")[-1]
        return made["spec"]["template"]["spec"].get("imagePullSecrets")

    assert secrets() == [{"name": "registry"}, {"name": "mirror"}]
    own = {"spec": {"imagePullSecrets": [{"name": "team"}, {"name": "mirror"}]}}
    assert secrets(template=own) == [{"name": "registry"}, {"name": "mirror"}, {"name": "team"}]
    assert secrets(template={"spec": {"imagePullSecrets": None}}) is None, "the resource says none"


@pytest.mark.parametrize(
    ("engines", "image", "chosen"),
    [
        (["rapidocr"], None, "small"),
        (["rapidocr", "transformers"], None, "large"),
        (["vllm", "transformers"], None, "largest"),
        (["transformers"], "mine", "mine"),
    ],
)
def test_the_image_has_the_engines_of_all_models(engines: list[str], image: str | None, chosen: str) -> None:
    models = [
        {"name": f"m{number}", "engine": engine}
        | ({"source": {"path": "/models"}} if engine != "rapidocr" else {})
        for number, engine in enumerate(engines)
    ]
    resource = resources.make_deployment(models=models, server={"image": image} if image else {})
    defaults = manifests.Defaults("small", image_cuda="large", image_vllm="largest")
    pod = manifests.desired(resource, defaults, TOKEN)[-1]["spec"]["template"]["spec"]
    assert container(pod)["image"] == chosen


def test_volumes_on_the_node_may_be_lost_unless_the_resource_says_otherwise() -> None:
    key = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"

    def said(**spec: Any) -> Any:
        return make_deployment_spec(**spec)["template"]["metadata"]["annotations"][key]

    assert said() == said(cache={"hostPath": {"path": "/weights"}}) == "cache,tmp"
    assert said(cache={"persistentVolumeClaim": {"claimName": "weights"}}) == "tmp"
    own = {"metadata": {"annotations": {key: "cache,tmp,mine"}}}
    assert said(template=own) == "cache,tmp,mine"


@pytest.mark.parametrize("sharing", ["exclusive", "none"])
def test_first_deployment_is_as_one_that_says_how_it_rolls_out(sharing: str) -> None:
    """So that what was made for the first write is still what is wanted once the Deployment is there."""
    resource = resources.make_deployment(gpu={"sharing": sharing})
    way = manifests.new_first_at_first(resource)
    made = manifests.desired(resource, DEFAULTS, TOKEN)
    assert made == manifests.desired(resource, DEFAULTS, TOKEN, new_first=way)
    written = next(each for each in made if each["kind"] == "Deployment")
    assert rollouts.new_first(written) == way


def users(node: Any) -> list[str]:
    """Every field of a template that asks for a user or a group."""
    asked = {"runAsUser", "runAsGroup", "fsGroup", "supplementalGroups"}
    match node:
        case dict():
            return [*(asked & node.keys()), *itertools.chain(*map(users, node.values()))]
        case list():
            return list(itertools.chain(*map(users, node)))
    return []


@pytest.mark.parametrize("sharing", ["none", "exclusive", "shared"])
def test_pods_of_a_cluster_that_assigns_users_ask_for_none_and_are_restricted(sharing: str) -> None:
    """What `restricted-v2` of OpenShift demands: users and groups of the namespace's range, which only it knows."""
    model = {"name": "m", "engine": "transformers", "gpuMemory": "1Gi", "source": {"path": "/m"}}
    resource = resources.make_deployment(gpu={"sharing": sharing}, models=[model])
    fixed, assigned = (
        manifests.desired(resource, manifests.Defaults("i", fixed_user=each), "t")[-1]["spec"]["template"][
            "spec"
        ]
        for each in (True, False)
    )
    assert sorted(users(fixed)) == ["fsGroup", "runAsGroup", "runAsUser"]
    assert users(assigned) == []
    for pod in (fixed, assigned):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        [container] = pod["containers"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        kinds = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
        assert kinds <= {
            "configMap",
            "csi",
            "downwardAPI",
            "emptyDir",
            "persistentVolumeClaim",
            "projected",
            "secret",
        }
