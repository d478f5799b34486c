"""What is written and deleted, and that nothing is once the cluster is as wanted."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_operator.decide import manifests, plan
from ocr_wire import names
from tests.support import resources

OWNER = {
    "apiVersion": names.API_VERSION,
    "kind": names.KIND,
    "name": "invoices",
    "uid": "uid-of-invoices",
    "controller": True,
}
DEFAULTS = manifests.Defaults(image="ocr:1")
Manifest = dict[str, Any]


def make_desired(**spec: Any) -> list[Manifest]:
    models = [{**resources.RAPIDOCR, "gpuMemory": "1Gi"}]
    return manifests.desired(resources.make_deployment(**{"models": models, **spec}), DEFAULTS, "token")


def served(wanted: list[Manifest]) -> list[Manifest]:
    """What an API server returns after `wanted` was applied: with defaults, status and its own spellings."""
    there = copy.deepcopy(wanted)
    for each in there:
        each["metadata"] |= {
            "uid": f"uid-{each['metadata']['name']}",
            "resourceVersion": "7",
            "generation": 1,
        }
        each["metadata"]["managedFields"] = [{"manager": "ocr-operator", "operation": "Apply"}]
        if each["kind"] == "Service":
            each["spec"] |= {"type": "ClusterIP", "sessionAffinity": "None"}
            # By a person: the operator leaves families of addresses to the cluster and to people.
            each["spec"] |= {"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack"}
            each["spec"].setdefault("clusterIP", "10.96.0.7")
            each["status"] = {"loadBalancer": {}}
        if each["kind"] == "Deployment":
            each["spec"] |= {"progressDeadlineSeconds": 600}
            pod = each["spec"]["template"]["spec"]
            pod |= {
                "restartPolicy": "Always",
                "dnsPolicy": "ClusterFirst",
                "schedulerName": "default-scheduler",
            }
            for volume in pod["volumes"]:
                if "secret" in volume:
                    volume["secret"]["defaultMode"] = 420
            for container in pod["containers"]:
                container |= {
                    "terminationMessagePath": "/dev/termination-log",
                    "imagePullPolicy": "IfNotPresent",
                }
                if probe := container.get("livenessProbe"):
                    probe |= {"successThreshold": 1}
                    probe["httpGet"]["scheme"] = "HTTP"
            each["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "1"
            each["status"] = {"replicas": 2}
    return there


def of_kind(objects: list[Manifest], kind: str) -> Manifest:
    return next(each for each in objects if each["kind"] == kind)


def container(objects: list[Manifest]) -> Manifest:
    found: Manifest = of_kind(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    return found


def test_everything_is_written_when_nothing_is_there() -> None:
    wanted = make_desired()
    made = plan.plan(wanted, [])
    assert list(made.apply) == wanted
    assert made.delete == ()
    assert made.why[0] == "Secret invoices-ocr-admin is missing"
    assert len(made.why) == 4


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"gpu": {"sharing": "none"}},
        {"gpu": {"sharing": "shared", "products": ["NVIDIA-L40S"]}},
        {"cache": {"emptyDir": {"sizeLimit": "2048Mi"}}},
        {"template": {"spec": {"containers": [{"name": "app", "image": "a"}], "priorityClassName": "high"}}},
    ],
    ids=str,
)
def test_unchanged_is_nothing_to_do(spec: dict[str, Any]) -> None:
    wanted = make_desired(**spec)
    assert plan.plan(wanted, served(wanted)) == plan.Plan()
    assert not plan.plan(wanted, served(wanted))


def remove_variable(there: list[Manifest]) -> None:
    container(there)["env"].pop(0)


def change_variable(there: list[Manifest]) -> None:
    container(there)["env"][0]["value"] = "9999"


def change_image(there: list[Manifest]) -> None:
    container(there)["image"] = "evil:1"


def add_argument(there: list[Manifest]) -> None:
    container(there)["args"].append("--verbose")


def scale(there: list[Manifest]) -> None:
    of_kind(there, "Deployment")["spec"]["replicas"] = 5


def remove_gate(there: list[Manifest]) -> None:
    del of_kind(there, "Deployment")["spec"]["template"]["spec"]["schedulingGates"]


def change_volume(there: list[Manifest]) -> None:
    volumes = of_kind(there, "Deployment")["spec"]["template"]["spec"]["volumes"]
    volumes[2] = {"name": "cache", "hostPath": {"path": "/"}}


def change_selector(there: list[Manifest]) -> None:
    of_kind(there, "Service")["spec"]["selector"] = {"app": "other"}


def narrow_selector(there: list[Manifest]) -> None:
    of_kind(there, "Service")["spec"]["selector"]["version"] = "2"


def narrow_nodes(there: list[Manifest]) -> None:
    of_kind(there, "Deployment")["spec"]["template"]["spec"]["nodeSelector"] = {"disk": "ssd"}


def pause(there: list[Manifest]) -> None:
    of_kind(there, "Deployment")["spec"]["paused"] = True


def lead_away(there: list[Manifest]) -> None:
    of_kind(there, "Service")["spec"] |= {"type": "ExternalName", "externalName": "elsewhere.example"}


def change_port(there: list[Manifest]) -> None:
    of_kind(there, "Service")["spec"]["ports"][0]["targetPort"] = 9


def change_token(there: list[Manifest]) -> None:
    of_kind(there, "Secret")["data"] = {"token": "c3RvbGVu"}


def remove_owner(there: list[Manifest]) -> None:
    del of_kind(there, "Service")["metadata"]["ownerReferences"]


def allow_escalation(there: list[Manifest]) -> None:
    container(there)["securityContext"]["allowPrivilegeEscalation"] = True


def change_limit(there: list[Manifest]) -> None:
    container(there)["resources"]["limits"] = {"nvidia.com/gpu": "2"}


OURS = "Deployment invoices: spec.template.spec.containers[ocr-inference]"
SERVE = ["serve", "--config", "/etc/ocr-inference/config.yaml"]
GATE = [{"name": "ocr-operator.io/placement"}]


@pytest.mark.parametrize(
    ("meddle", "why"),
    [
        (remove_variable, f"{OURS}.env[PORT] differs"),
        (change_variable, f"{OURS}.env[PORT].value differs"),
        (change_image, f"{OURS}.image is 'evil:1', wanted 'ocr:1'"),
        (add_argument, f"{OURS}.args is {[*SERVE, '--verbose']}, wanted {SERVE}"),
        (allow_escalation, f"{OURS}.securityContext.allowPrivilegeEscalation is True, wanted False"),
        (change_limit, f"{OURS}.resources.limits['nvidia.com/gpu'] is '2', wanted '1'"),
        (scale, "Deployment invoices: spec.replicas is 5, wanted 1"),
        (remove_gate, f"Deployment invoices: spec.template.spec.schedulingGates is missing, wanted {GATE}"),
        (
            change_volume,
            "Deployment invoices: spec.template.spec.volumes[cache].emptyDir is missing, wanted {}",
        ),
        (
            change_selector,
            (
                "Service invoices: spec.selector['ocr-operator.io/deployment'] is missing, wanted 'invoices'; "
                "spec.selector['ocr-operator.io/awake'] is missing, wanted 'true'; "
                "spec.selector.app is 'other', wanted none"
            ),
        ),
        (narrow_selector, "Service invoices: spec.selector.version is '2', wanted none"),
        (narrow_nodes, "Deployment invoices: spec.template.spec.nodeSelector.disk is 'ssd', wanted none"),
        (pause, "Deployment invoices: spec.paused is True, wanted False"),
        (lead_away, "Service invoices: spec.type is 'ExternalName', wanted 'ClusterIP'"),
        (change_port, "Service invoices: spec.ports[8001].targetPort is 9, wanted 'http'"),
        (change_token, "Secret invoices-ocr-admin: data.token differs"),
    ],
)
def test_what_drifted_is_written_again_and_named(meddle: Callable[[list[Manifest]], None], why: str) -> None:
    wanted = make_desired()
    there = served(wanted)
    meddle(there)
    made = plan.plan(wanted, there)
    assert made.why == made.drifts == (why,)
    assert [f"{each['kind']} {each['metadata']['name']}" for each in made.apply] == [why.partition(":")[0]]
    assert made.delete == ()


def test_object_that_lost_its_owner_is_taken_back() -> None:
    """Backup tools restore objects without their owner references."""
    wanted = make_desired()
    there = served(wanted)
    remove_owner(there)
    made = plan.plan(wanted, there)
    assert [each["metadata"]["name"] for each in made.apply] == ["invoices"]
    assert "metadata.ownerReferences is missing" in made.why[0]


def test_field_that_is_no_longer_wanted_is_noticed() -> None:
    """What is there still has all that we want, but also what we wanted before."""
    before = make_desired(template={"spec": {"priorityClassName": "high"}})
    made = plan.plan(make_desired(), served(before))
    assert made.why == ("Deployment invoices: a field is no longer wanted",)
    assert [each["kind"] for each in made.apply] == ["Deployment"]


def test_additions_of_others_are_left_alone() -> None:
    wanted = make_desired()
    there = served(wanted)
    pod = of_kind(there, "Deployment")["spec"]["template"]["spec"]
    pod["containers"].insert(0, {"name": "mesh-proxy", "image": "proxy:1"})
    pod["volumes"].insert(0, {"name": "mesh-certs", "emptyDir": {}})
    container_of_ours = pod["containers"][1]
    container_of_ours["env"].insert(0, {"name": "INJECTED", "value": "1"})
    of_kind(there, "Service")["metadata"]["labels"]["team"] = "billing"
    assert not plan.plan(wanted, there)


@pytest.mark.parametrize(
    ("wanted", "there"), [(1, "1"), ("1024Mi", "1Gi"), (0.5, "500m"), ("1000m", "1"), ("2e3", "2k")]
)
def test_quantities_are_compared_by_their_amount(wanted: object, there: object) -> None:
    def deployment(amount: object) -> Manifest:
        return {
            "kind": "Deployment",
            "metadata": {"name": "a"},
            "spec": {"resources": {"requests": {"cpu": amount}}},
        }

    labelled = {**deployment(there), "metadata": {"name": "a", "labels": {names.LABEL_DEPLOYMENT: "a"}}}
    ours = {**deployment(wanted), "metadata": {"name": "a", "labels": {names.LABEL_DEPLOYMENT: "a"}}}
    assert not plan.plan([ours], [labelled])


def test_text_that_looks_like_a_quantity_is_text() -> None:
    wanted = make_desired(template={"metadata": {"labels": {"size": "1Gi"}}})
    there = served(wanted)
    of_kind(there, "Deployment")["spec"]["template"]["metadata"]["labels"]["size"] = "1024Mi"
    assert plan.plan(wanted, there).why == (
        "Deployment invoices: spec.template.metadata.labels.size is '1024Mi', wanted '1Gi'",
    )


def test_owned_object_that_is_no_longer_wanted_is_deleted() -> None:
    wanted = make_desired()
    old = copy.deepcopy(of_kind(served(wanted), "Service"))
    old["metadata"]["name"] = "invoices-old"
    made = plan.plan(wanted, [*served(wanted), old])
    assert made.delete == (old,)
    assert made.why == ("Service invoices-old is no longer wanted",)
    assert made.apply == ()


@pytest.mark.parametrize(
    "owners", [[], [{"uid": "someone", "controller": True}], [{"uid": "uid-of-invoices"}]]
)
def test_object_of_somebody_else_is_never_deleted(owners: list[Manifest]) -> None:
    wanted = make_desired()
    foreign = copy.deepcopy(of_kind(served(wanted), "Service"))
    foreign["metadata"] |= {"name": "theirs", "ownerReferences": owners}
    assert not plan.plan(wanted, [*served(wanted), foreign])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            {"ownerReferences": [{"uid": "x", "controller": True}]},
            "belongs to another object; delete it or rename the resource",
        ),
        (
            {"ownerReferences": [], "labels": {}},
            "exists and isn't the operator's; delete it or rename the resource",
        ),
        (
            {"ownerReferences": [], "labels": {names.LABEL_DEPLOYMENT: "other"}},
            "exists and isn't the operator's; delete it or rename the resource",
        ),
    ],
)
def test_name_that_is_taken_blocks_and_is_not_written_over(change: Manifest, why: str) -> None:
    wanted = make_desired()
    there = served(wanted)
    taken = of_kind(there, "Service")
    taken["metadata"] |= change
    taken["spec"]["selector"] = {"app": "theirs"}
    made = plan.plan(wanted, there)
    assert made.blocked == (f"Service invoices {why}",)
    assert not made


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            {"deletionTimestamp": "2026-01-01T00:00:00Z"},
            "is being deleted; it is written again once it is gone",
        ),
        (
            {"ownerReferences": [OWNER | {"uid": "the one before"}]},
            "belongs to the resource that had this name before; it is written once Kubernetes has removed it",
        ),
    ],
)
def test_child_on_its_way_out_is_waited_for(change: Manifest, why: str) -> None:
    wanted = make_desired()
    there = served(wanted)
    of_kind(there, "Service")["metadata"] |= change
    of_kind(there, "Service")["spec"]["selector"] = {"app": "theirs"}
    made = plan.plan(wanted, there)
    assert (made.waits, made.blocked) == ((f"Service invoices {why}",), ())
    assert not made


def test_only_an_object_of_the_resource_that_stays_is_settled() -> None:
    of = {"ownerReferences": [OWNER]}
    assert plan.is_settled({"metadata": of}, str(OWNER["uid"]))
    assert not plan.is_settled({"metadata": of}, "another")
    assert not plan.is_settled({"metadata": of | {"deletionTimestamp": "now"}}, str(OWNER["uid"]))
    assert not plan.is_settled({"metadata": {}}, str(OWNER["uid"]))


def test_reasons_are_few_and_short() -> None:
    wanted = make_desired()
    there = served(wanted)
    for each in container(there)["env"]:
        each["value"] = "x"
    of_kind(there, "Deployment")["spec"]["template"]["metadata"]["annotations"][names.ANNOTATION_CONFIG] = (
        "y" * 5000
    )
    [why] = plan.plan(wanted, there).why
    assert why.count(";") == plan.MAX_REASONS - 1
    assert len(why) < 700


def test_a_log_never_has_the_token_or_a_variable() -> None:
    wanted = make_desired(
        template={
            "spec": {
                "containers": [{"name": "ocr-inference", "env": [{"name": "PASSWORD", "value": "hunter2"}]}]
            }
        }
    )
    there = served(wanted)
    change_token(there)
    container(there)["env"][-1]["value"] = "hunter3"
    reported = " ".join(plan.plan(wanted, there).why)
    assert "PASSWORD" in reported
    assert not [secret for secret in ("hunter", "c3RvbGVu", "dG9rZW4") if secret in reported]


VALUES = st.recursive(
    st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "env", "ports", "port", "limits", "emptyDir", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


def extended(value: Any) -> Any:
    """`value` as an API server may return it: with more fields in every object."""
    match value:
        case dict():
            return {"defaulted": "x", **{key: extended(item) for key, item in value.items()}}
        case list():
            return [extended(item) for item in value]
    return value


def labelled(value: Any) -> Manifest:
    return {
        "kind": "Thing",
        "metadata": {"name": "a", "labels": {names.LABEL_DEPLOYMENT: "a"}},
        "spec": value,
    }


def distinct(value: Any) -> bool:
    """Whether no list has two items of the same name or port, which an API server wouldn't have accepted."""
    match value:
        case dict():
            return all(distinct(item) for item in value.values())
        case list():
            seen = [item.get("name", item.get("port")) for item in value if isinstance(item, dict)]
            return all(seen.count(each) == 1 for each in seen) and all(distinct(item) for item in value)
    return True


@given(VALUES.filter(distinct))
def test_what_was_written_is_never_written_again(value: Any) -> None:
    wanted = labelled(value)
    assert not plan.plan([wanted], [extended(wanted)])


@given(VALUES, VALUES)
def test_a_plan_never_raises_and_a_difference_in_a_scalar_is_seen(wanted: Any, there: Any) -> None:
    made = plan.plan([labelled(wanted)], [labelled(there)])
    if isinstance(wanted, str | int) and isinstance(there, str | int) and wanted != there:
        assert made
