"""The Helm chart: what it renders, what it refuses, and that it says the same as its README and the operator."""

import functools
import itertools
import json
import re
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubectl_ocr import cli
from ocr_operator.decide import ownership
from ocr_operator.decide.placement import POLICIES
from ocr_operator.kube import api
from ocr_operator.resources import spec
from ocr_operator.settings import VERSION, Settings
from ocr_wire import names
from tests.support import chart_docs, charts
from tests.support.chart_docs import CHART
from tests.support.charts import only
from tests.support.paths import ROOT

Documents = charts.Documents
Render = Callable[..., Documents]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
CLUSTER_NAME = "ocr-operator.ocr-system"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return functools.partial(charts.run, tmp_path)


@pytest.fixture
def render(tmp_path: Path) -> Render:
    return lambda **values: charts.render(tmp_path, values)


@pytest.fixture
def hooks(tmp_path: Path) -> Render:
    return lambda **values: charts.hooks(tmp_path, values)


def operator_container(documents: Documents) -> dict[str, Any]:
    [container] = only(documents, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert isinstance(container, dict)
    return container


def verbs(role: dict[str, Any], resource: str) -> set[str]:
    return {verb for rule in role["rules"] if resource in rule["resources"] for verb in rule["verbs"]}


VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
OF_PARENTS = {"global", "enabled"}
"""Of charts that have this one as a part: their `global` has more, their condition is for Helm alone."""
OPEN = {"global"}
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("folder", ["ocr-operator/files", "ocr-operator-crds/crds"])
def test_charts_carry_the_canonical_definitions(folder: str) -> None:
    copies, canonical = (
        {path.name: path.read_bytes() for path in each.iterdir()}
        for each in (CHART.parent / folder, ROOT / "crds")
    )
    assert copies == canonical, "run `make crds`"


@pytest.mark.parametrize("path", chart_docs.generated(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_is_made_from_the_values_is_as_they_are(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == chart_docs.generated()[path], "run `make chart`"


def test_row_of_the_readme_has_name_default_and_text() -> None:
    group = "a:\n  # -- first line\n  # and second\n  b: 2\n  c: x\n"
    source = f"# Not about a value.\n\n{group}# -- whole\n# @default -- much\nd:\n  e: [1]\n"
    assert chart_docs.table(source).splitlines()[2:] == [
        "| `a.b` | `2` | first line and second |",
        "| `a.c` | `x` | |",
        "| `d` | much | whole |",
    ]


def test_every_value_has_a_name_that_a_template_can_have_absent() -> None:
    """Each template begins by giving absent keys their defaults."""
    for template in (CHART / "templates").rglob("*.*"):
        if not template.name.startswith("_"):
            assert template.read_text("utf-8").startswith('{{- include "ocr-operator.fill" . }}\n'), template


def test_schema_names_each_value_and_is_closed_at_every_level() -> None:
    def check(schema: dict[str, Any], values: dict[str, Any], path: str) -> None:
        assert schema["additionalProperties"] is False, path
        assert set(schema["properties"]) - OF_PARENTS == set(values) - OF_PARENTS, path
        for key, value in values.items():
            inner = schema["properties"][key]
            if isinstance(value, dict) and "properties" in inner and key not in OPEN:
                check(inner, value, f"{path}{key}.")

    check(SCHEMA, VALUES, "")


def without_bounds(schema: Any, path: str = "") -> list[str]:
    """The objects of a schema, by path, that may have any field of any name."""
    if isinstance(schema, list):
        return [each for item in schema for each in without_bounds(item, path)]
    if not isinstance(schema, dict):
        return []
    types = schema.get("type", ())
    is_open = (
        "object" in ([types] if isinstance(types, str) else types) and "additionalProperties" not in schema
    )
    below = [each for key, value in schema.items() for each in without_bounds(value, f"{path}/{key}")]
    return ([path] if is_open else []) + below


def test_only_what_is_a_persons_own_may_have_any_field() -> None:
    assert sorted(without_bounds(SCHEMA)) == [
        "/properties/extraObjects/items",
        "/properties/global",
        "/properties/global/properties/imagePullSecrets/items/anyOf",
    ]
    parts = json.loads((CHART.parent / "ocr-resources" / "values.schema.json").read_text(encoding="utf-8"))
    assert sorted(without_bounds(parts)) == [
        "/definitions/resources/additionalProperties/properties/spec",
        "/properties/global",
    ], "a spec is the definition's to check"


def test_every_value_is_used_by_a_template() -> None:
    templates = "".join(path.read_text(encoding="utf-8") for path in (CHART / "templates").rglob("*.*"))
    used = set(re.findall(r"\.Values\.([\w.]+)", templates))
    # `.Values.image` is handed over whole: then the parts of it are found by their own names.
    leaves = [each.name for each in chart_docs.values(chart_docs.VALUES.read_text(encoding="utf-8"))]
    for name in leaves:
        parents, part = list(itertools.accumulate(name.split("."), "{}.{}".format))[:-1], name.split(".")[-1]
        assert name in used or (used.intersection(parents) and f".{part}" in templates), name


@pytest.mark.parametrize("field", ["counted_pods", "placement_policy", "pod_user", "log_level", "log_format"])
def test_words_of_a_setting_are_those_of_its_value(field: str) -> None:
    [setting] = [each for each in fields(Settings) if each.name == field]
    value = re.sub(r"_(\w)", lambda found: found[1].upper(), field)
    assert sorted(SCHEMA["properties"][value]["enum"]) == sorted(setting.metadata["one_of"])
    assert setting.default == VALUES[value]
    readme = (CHART / "README.md").read_text(encoding="utf-8")
    [row] = [line for line in readme.splitlines() if line.startswith(f"| `{value}` |")]
    assert [word for word in setting.metadata["one_of"] if word not in row] == []


@pytest.mark.parametrize("name", sorted(path.name for path in CHART.parent.iterdir()))
def test_charts_and_project_have_one_version(name: str) -> None:
    chart = yaml.safe_load((CHART.parent / name / "Chart.yaml").read_text(encoding="utf-8"))
    project = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert project is not None
    assert (chart["version"], chart["appVersion"]) == (project[1], project[1])


def about() -> dict[str, Any]:
    """What Artifact Hub shows of the chart."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    found: dict[str, Any] = {
        key.removeprefix("artifacthub.io/"): yaml.safe_load(text)
        for key, text in chart["annotations"].items()
    }
    return found | {"version": chart["version"]}


def test_artifact_hub_is_told_of_each_definition_and_image() -> None:
    shown = about()
    definitions = [yaml.safe_load(path.read_text("utf-8")) for path in sorted((ROOT / "crds").glob("*.yaml"))]
    assert [(each["kind"], each["name"], each["version"]) for each in shown["crds"]] == [
        (each["spec"]["names"]["kind"], each["metadata"]["name"], each["spec"]["versions"][0]["name"])
        for each in definitions
    ]
    repositories = [VALUES[key]["repository"] for key in ("image", "inferenceImage")]
    assert [each["image"] for each in shown["images"]] == [
        f"{each}:{shown['version']}" for each in repositories
    ]
    resource, policy = shown["crdsExamples"]
    placed = resource["metadata"] | {"namespace": "a", "uid": "b", "generation": 1}
    assert isinstance(spec.parse(resource | {"metadata": placed}), spec.OcrDeployment)
    fields_of = definitions[1]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert policy["spec"].keys() <= fields_of["properties"].keys()
    assert (resource["kind"], policy["kind"]) == (names.KIND, names.POLICY_KIND)


@pytest.mark.cluster
@pytest.mark.parametrize("name", sorted(path.name for path in CHART.parent.iterdir()))
def test_lint_is_clean(run: Run, name: str) -> None:
    done = run("lint", str(CHART.parent / name), "--strict", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.cluster
def test_default_release_is_these_objects(render: Render) -> None:
    assert sorted((d["kind"], d["metadata"]["name"]) for d in render()) == [
        ("ClusterRole", "ocr-operator-editor.ocr-system"),
        ("ClusterRole", "ocr-operator-viewer.ocr-system"),
        ("ClusterRole", "ocr-operator.ocr-system"),
        ("ClusterRoleBinding", "ocr-operator.ocr-system"),
        ("CustomResourceDefinition", "ocrdeployments.ocr-operator.io"),
        ("CustomResourceDefinition", "ocridlepolicies.ocr-operator.io"),
        ("Deployment", "ocr-operator"),
        ("PodDisruptionBudget", "ocr-operator"),
        ("Role", "ocr-operator-leader"),
        ("RoleBinding", "ocr-operator-leader"),
        ("Service", "ocr-operator-metrics"),
        ("ServiceAccount", "ocr-operator"),
        *(
            (kind, f"ocr-operator-{part}.ocr-system")
            for kind in ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
            for part in ("children", "others", "pods", "template")
        ),
    ]


@pytest.mark.parametrize("plural", [names.PLURAL, names.POLICY_PLURAL])
def test_definition_fits_into_the_annotation_of_kubectl_apply(plural: str) -> None:
    definition = yaml.safe_load((ROOT / "crds" / f"{plural}.yaml").read_text(encoding="utf-8"))
    assert len(json.dumps(definition, separators=(",", ":"))) < 128 * 1024, "262144 bytes are all annotations"


@pytest.mark.cluster
def test_unknown_fields_of_templates_are_told_refused_or_ignored(render: Render) -> None:
    for action in ("Warn", "Deny"):
        documents = render(unknownTemplateFields=action, rbac={"admissionPolicy": "Ignore"})
        binding = only(documents, "ValidatingAdmissionPolicyBinding")["spec"]
        policy = only(documents, "ValidatingAdmissionPolicy", binding["policyName"])["spec"]
        assert binding["validationActions"] == [action]
        assert policy["failurePolicy"] == "Ignore"
        longest = max(len(each["expression"]) for each in policy["variables"])
        assert longest < 10_000, "the API server compiled one of 65,000 characters for half a minute"
    for values in ({"unknownTemplateFields": "Ignore"}, {"crds": {"enabled": False}}):
        assert not [
            each for each in render(**values) if each["metadata"]["name"].endswith("-template.ocr-system")
        ]


@pytest.mark.cluster
def test_policies_of_the_operators_rights_are_about_its_account_alone(render: Render) -> None:
    def found(**values: Any) -> tuple[Documents, Documents]:
        documents = render(unknownTemplateFields="Ignore", **values)
        kinds = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
        policies, bindings = ([each for each in documents if each["kind"] == kind] for kind in kinds)
        return policies, bindings

    policies, bindings = found(serviceAccount={"name": "mine"})
    for policy in policies:
        [condition] = policy["spec"]["matchConditions"]
        assert (
            condition["expression"] == "request.userInfo.username == 'system:serviceaccount:ocr-system:mine'"
        )
        assert policy["spec"]["failurePolicy"] == "Fail"
    assert [each["spec"]["validationActions"] for each in bindings] == [["Deny"]] * 3
    _, audited = found(rbac={"admissionPolicy": "Audit"})
    assert [each["spec"]["validationActions"] for each in audited] == [["Audit"]] * 3
    roles = {"watchNamespaces": ["invoices"]}
    for off, more in (
        ({"admissionPolicy": "Ignore"}, {}),
        ({"create": False}, {}),
        ({"clusterWide": False, "aggregateToDefaultRoles": False}, roles),
    ):
        assert found(rbac=off, **more) == ([], [])


@pytest.mark.cluster
@pytest.mark.parametrize(
    "without", ["rbac.create=false", "rbac.clusterWide=false,watchNamespaces={invoices}"]
)
def test_policies_are_rendered_for_an_administrator_by_the_command_that_the_docs_give(
    run: Run, without: str
) -> None:
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    [command] = re.findall(r"`helm (template [^`]*operator-policy\.yaml)`", text)
    release, *options = command.replace("RELEASE", "ours").replace("NAMESPACE", "ocr-system").split()[1:]
    done = run("template", release, str(CHART), "--set", without, *options[1:])
    assert done.stdout.count("kind: ValidatingAdmissionPolicy\n") == 3, done.stderr
    assert "system:serviceaccount:ocr-system:ours-ocr-operator" in done.stdout


@pytest.mark.cluster
def test_policies_bound_each_write_that_the_role_grants(render: Render) -> None:
    """A verb that is added to the role has to be thought of there, too."""
    documents = render(watchNamespaces=["invoices"])
    bounded = {
        (group, resource, operation)
        for each in documents
        if each["kind"] == "ValidatingAdmissionPolicy" and "-template." not in each["metadata"]["name"]
        for rule in each["spec"]["matchConstraints"]["resourceRules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for operation in rule["operations"]
    }
    operations = {"create": "CREATE", "patch": "UPDATE", "update": "UPDATE", "delete": "DELETE"}
    granted = {
        (group, resource, operations[verb])
        for role in documents
        if role["kind"] in ("Role", "ClusterRole")
        and not role["metadata"]["name"].endswith(("-editor.ocr-system", "-viewer.ocr-system"))
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        if verb in operations
    }
    free = {(names.GROUP, f"{plural}/status", "UPDATE") for plural in (names.PLURAL, names.POLICY_PLURAL)}
    asked_for_only = {(names.GROUP, f"{names.PLURAL}/finalizers", "UPDATE")}
    assert granted - bounded == free | asked_for_only


@pytest.mark.cluster
@pytest.mark.parametrize("plural", [names.PLURAL, names.POLICY_PLURAL])
def test_rendered_definition_differs_from_the_canonical_one_in_labels_and_keep_only(
    render: Render, plural: str
) -> None:
    canonical = yaml.safe_load((ROOT / "crds" / f"{plural}.yaml").read_text(encoding="utf-8"))
    rendered = only(render(), "CustomResourceDefinition", f"{plural}.{names.GROUP}")
    metadata = rendered.pop("metadata")
    expected = canonical.pop("metadata")
    assert rendered == canonical
    assert metadata["name"] == expected["name"]
    assert metadata["annotations"] == expected.get("annotations", {}) | {"helm.sh/resource-policy": "keep"}


@pytest.mark.cluster
def test_definition_can_be_left_out_or_given_up_on_uninstall(render: Render) -> None:
    assert not [d for d in render(crds={"enabled": False}) if d["kind"] == "CustomResourceDefinition"]
    given_up = [d for d in render(crds={"keep": False}) if d["kind"] == "CustomResourceDefinition"]
    assert len(given_up) == 2
    assert not [d for d in given_up if "helm.sh/resource-policy" in d["metadata"].get("annotations", {})]


@pytest.mark.cluster
def test_operator_pod_meets_the_restricted_pod_security_standard(render: Render) -> None:
    pod = only(render(), "Deployment")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert [set(volume) - {"name"} for volume in pod["volumes"]] == [{"emptyDir"}]
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)


@pytest.mark.cluster
def test_cluster_autoscaler_may_remove_the_operators_node(render: Render) -> None:
    """It leaves a node alone that has a pod with volumes there, unless the pod names them as such that may be lost."""
    template = only(render(), "Deployment")["spec"]["template"]
    local = [each["name"] for each in template["spec"]["volumes"] if "emptyDir" in each]
    named = template["metadata"]["annotations"][
        "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"
    ]
    assert named.split(",") == local


def test_there_is_one_operator_at_a_time(render: Render) -> None:
    spec = only(render(), "Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (
        2,
        {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
    )


@pytest.mark.cluster
def test_selectors_find_the_operator_pod(render: Render) -> None:
    documents = render(podLabels={"team": "documents"}, metrics={"serviceMonitor": {"enabled": True}})
    deployment = only(documents, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels["team"] == "documents"
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    service = only(documents, "Service")
    assert service["spec"]["selector"].items() <= labels.items()
    monitor = only(documents, "ServiceMonitor")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    ports = {port["name"] for port in service["spec"]["ports"]}
    assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} <= ports


@pytest.mark.cluster
def test_role_covers_each_kind_that_the_operator_touches(render: Render) -> None:
    role = only(render(), "ClusterRole", CLUSTER_NAME)
    for kind in api.KINDS:
        group = kind.api_version.rpartition("/")[0]
        granted = [r for r in role["rules"] if kind.plural in r["resources"] and group in r["apiGroups"]]
        assert granted, kind.plural


@pytest.mark.cluster
def test_role_is_no_wider_than_needed(render: Render) -> None:
    role = only(render(), "ClusterRole", CLUSTER_NAME)
    assert verbs(role, "secrets") == {"get", "create", "patch"}
    assert verbs(role, names.PLURAL) == {"get", "list", "watch", "patch"}
    assert verbs(role, f"{names.PLURAL}/status") == {"patch"}
    assert verbs(role, names.POLICY_PLURAL) == {"get", "list", "watch"}
    assert verbs(role, f"{names.POLICY_PLURAL}/status") == {"patch"}
    assert verbs(role, "nodes") == verbs(role, "namespaces") == {"list", "watch"}
    assert verbs(role, "resourceclaims") == {"get", "create", "delete"}
    assert verbs(role, "pods") == {"list", "watch", "patch", "delete"}
    assert verbs(role, "pods/status") == {"patch"}
    assert verbs(role, "events") == {"create", "patch", "list"}
    for volumes in ("persistentvolumes", "persistentvolumeclaims", "storageclasses"):
        assert verbs(role, volumes) == {"get"}
    leases = [rule for rule in role["rules"] if "leases" in rule["resources"]]
    assert [(rule["verbs"], rule.get("resourceNames")) for rule in leases] == [
        (["create"], None),
        (["get", "patch"], [ownership.LEASE_NAME]),
    ]
    resources = {resource for rule in role["rules"] for resource in rule["resources"]}
    assert resources == {kind.plural for kind in api.KINDS} | {
        f"{names.PLURAL}/status",
        f"{names.PLURAL}/finalizers",
        f"{names.POLICY_PLURAL}/status",
        "pods/status",
    }
    assert not [
        rule for rule in role["rules"] if "*" in rule["verbs"] + rule["resources"] + rule["apiGroups"]
    ]


@pytest.mark.cluster
def test_operator_of_a_lost_node_is_replaced_after_half_a_minute(render: Render) -> None:
    """Kubernetes' own default is five minutes."""
    pod = only(render(), "Deployment")["spec"]["template"]["spec"]
    assert pod["tolerations"] == [
        {
            "key": f"node.kubernetes.io/{key}",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": 30,
        }
        for key in ("not-ready", "unreachable")
    ]


@pytest.mark.cluster
@pytest.mark.parametrize("namespaces", [[], ["invoices"]])
def test_replicas_elect_by_a_lease_of_the_release_that_they_may_write(
    render: Render, namespaces: list[str]
) -> None:
    documents = render(watchNamespaces=namespaces, fullnameOverride="mine")
    environment = {each["name"]: each.get("value") for each in operator_container(documents)["env"]}
    assert environment["OCR_OPERATOR_LEASE"] == "ocr-system/mine-leader"
    role = only(documents, "Role", "mine-leader")
    assert role["metadata"]["namespace"] == "ocr-system"
    assert [(rule["verbs"], rule.get("resourceNames")) for rule in role["rules"]] == [
        (["create"], None),
        (["get", "patch"], ["mine-leader"]),
    ]
    assert only(documents, "RoleBinding", "mine-leader")["roleRef"]["name"] == "mine-leader"


@pytest.mark.cluster
def test_one_of_several_replicas_stays_while_nodes_are_drained(render: Render) -> None:
    documents = render()
    budget = only(documents, "PodDisruptionBudget")["spec"]
    pod = only(documents, "Deployment")["spec"]["template"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    [spread] = pod["spec"]["topologySpreadConstraints"]
    assert (spread["topologyKey"], spread["whenUnsatisfiable"]) == (
        "kubernetes.io/hostname",
        "ScheduleAnyway",
    )
    for values in ({"replicas": 1}, {"podDisruptionBudget": {"enabled": False}}):
        assert not [each for each in render(**values) if each["kind"] == "PodDisruptionBudget"]


@pytest.mark.cluster
def test_watched_namespaces_get_roles_and_the_cluster_gives_what_has_no_namespace(render: Render) -> None:
    documents = render(
        watchNamespaces=["invoices", "forms"], countedPods="watched", exporterNamespace="gpu-operator"
    )
    without_namespace = only(documents, "ClusterRole", CLUSTER_NAME)["rules"]
    assert {resource for rule in without_namespace for resource in rule["resources"]} == {
        "nodes",
        "namespaces",
        "persistentvolumes",
        "storageclasses",
        names.POLICY_PLURAL,
        f"{names.POLICY_PLURAL}/status",
    }
    leader = "ocr-operator-leader"
    roles = {
        d["metadata"]["namespace"]: d["rules"]
        for d in documents
        if d["kind"] == "Role" and d["metadata"]["name"] != leader
    }
    everywhere = only(render(), "ClusterRole", CLUSTER_NAME)["rules"]
    in_namespace = [rule for rule in everywhere if rule not in without_namespace]
    pods = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}]
    events = [{"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]}]
    expected = {
        "invoices": in_namespace,
        "forms": in_namespace,
        "gpu-operator": pods,
        "ocr-system": events,
    }
    assert roles == expected
    bindings = [d for d in documents if d["kind"] in {"RoleBinding", "ClusterRoleBinding"}]
    account = {"kind": "ServiceAccount", "name": "ocr-operator", "namespace": "ocr-system"}
    assert [binding["subjects"] for binding in bindings] == [[account]] * 6


@pytest.mark.cluster
def test_roles_alone_are_no_rights_beyond_the_watched_namespaces(render: Render) -> None:
    alone = {
        "watchNamespaces": ["invoices"],
        "rbac": {"clusterWide": False, "aggregateToDefaultRoles": False},
        "crds": {"enabled": False},
        "unknownTemplateFields": "Ignore",
    }
    documents = render(**alone)
    assert not [each for each in documents if "namespace" not in each["metadata"]]
    roles = {(d["metadata"]["namespace"], d["metadata"]["name"]) for d in documents if d["kind"] == "Role"}
    assert roles == {
        ("invoices", "ocr-operator"),
        ("ocr-system", "ocr-operator-leader"),
        ("ocr-system", "ocr-operator-events"),
    }
    environment = {each["name"]: each.get("value") for each in operator_container(documents)["env"]}
    assert environment["OCR_OPERATOR_CLUSTER_ACCESS"] == "none"


@pytest.mark.cluster
@pytest.mark.parametrize("exporters", ["", "invoices", "*"])
def test_exporter_namespace_gets_a_role_only_where_it_is_another_one(render: Render, exporters: str) -> None:
    documents = render(watchNamespaces=["invoices"], exporterNamespace=exporters)
    assert [d["metadata"]["name"] for d in documents if d["kind"] == "Role"] == [
        "ocr-operator",
        "ocr-operator-leader",
        "ocr-operator-events",
    ]


@pytest.mark.cluster
def test_all_pods_are_read_only_where_all_of_them_count(render: Render) -> None:
    values: dict[str, Any] = {"watchNamespaces": ["invoices"]}
    assert verbs(only(render(**values), "ClusterRole", CLUSTER_NAME), "pods") == {"list", "watch"}
    role = only(render(**values, countedPods="watched"), "ClusterRole", CLUSTER_NAME)
    assert not verbs(role, "pods")


@pytest.mark.cluster
@pytest.mark.parametrize(("namespaces", "scope"), [([], "*"), (["forms", "a", "forms"], "a,forms")])
def test_release_says_which_namespaces_it_watches(render: Render, namespaces: list[str], scope: str) -> None:
    role = only(render(watchNamespaces=namespaces), "ClusterRole", CLUSTER_NAME)
    assert role["metadata"]["annotations"] == {"ocr-operator.io/watch-namespaces": scope}


@pytest.mark.cluster
def test_role_for_events_is_not_made_where_the_releases_namespace_is_watched(render: Render) -> None:
    documents = render(watchNamespaces=["ocr-system"])
    assert {d["metadata"]["name"] for d in documents if d["kind"] == "Role"} == {
        "ocr-operator",
        "ocr-operator-leader",
    }


@pytest.mark.cluster
def test_own_exporter_is_found_by_the_operator_and_takes_no_device(render: Render) -> None:
    documents = render(gpuExporter={"enabled": True})
    daemon = only(documents, "DaemonSet")
    pod = daemon["spec"]["template"]
    labels = {f"{key}={value}" for key, value in pod["metadata"]["labels"].items()}
    assert labels & set(Settings().exporter_selectors)
    [container] = pod["spec"]["containers"]
    assert container["args"] == ["gpu-exporter", "--port", str(Settings().exporter_port)]
    assert container["ports"][0]["containerPort"] == Settings().exporter_port
    assert not [name for name in container["resources"]["limits"] if "/" in name]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert not [d for d in render() if d["kind"] == "DaemonSet"]


@pytest.mark.cluster
def test_own_exporter_is_looked_for_in_the_releases_namespace(render: Render) -> None:
    documents = render(watchNamespaces=["invoices"], gpuExporter={"enabled": True})
    environment = {each["name"]: each.get("value") for each in operator_container(documents)["env"]}
    assert environment["OCR_OPERATOR_EXPORTER_NAMESPACE"] == "ocr-system"
    assert {d["metadata"]["namespace"] for d in documents if d["kind"] == "Role"} == {
        "invoices",
        "ocr-system",
    }


@pytest.mark.cluster
def test_prometheus_and_its_token_reach_the_operator(render: Render) -> None:
    documents = render(
        prometheus={"url": "http://prometheus:9090", "tokenSecretName": "reader", "matchers": 'cluster="eu"'}
    )
    container = operator_container(documents)
    environ = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    settings = Settings.from_env(environ)
    assert settings.prometheus_url == "http://prometheus:9090"
    assert settings.prometheus_matchers == 'cluster="eu"'
    [mount] = [each for each in container["volumeMounts"] if each["name"] == "prometheus"]
    assert settings.prometheus_token_file == f"{mount['mountPath']}/token"
    volumes = only(documents, "Deployment")["spec"]["template"]["spec"]["volumes"]
    assert {
        "name": "prometheus",
        "secret": {"secretName": "reader", "items": [{"key": "token", "path": "token"}]},
    } in (volumes)


@pytest.mark.cluster
@pytest.mark.parametrize("policy", POLICIES)
def test_placement_policy_reaches_the_operator(render: Render, policy: str) -> None:
    container = operator_container(render(placementPolicy=policy))
    environ = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    assert Settings.from_env(environ).placement_policy == policy


@pytest.mark.cluster
@pytest.mark.parametrize("seconds", [-1, 0, 600])
def test_time_until_pods_are_the_schedulers_reaches_the_operator(render: Render, seconds: int) -> None:
    metrics = {"resourceSeries": 8}
    container = operator_container(render(leaveToSchedulerSeconds=seconds, upgradesAtOnce=7, metrics=metrics))
    environ = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    assert Settings.from_env(environ).resource_series == 8
    assert Settings.from_env(environ).upgrades_at_once == 7
    assert Settings.from_env(environ).leave_to_scheduler_seconds == seconds


@pytest.mark.cluster
def test_only_the_operator_may_write_a_status_and_only_administrators_a_policy(render: Render) -> None:
    documents = render()
    for person in ("ocr-operator-viewer.ocr-system", "ocr-operator-editor.ocr-system"):
        role = only(documents, "ClusterRole", person)
        for what in (f"{names.PLURAL}/status", f"{names.POLICY_PLURAL}/status", names.POLICY_PLURAL):
            assert verbs(role, what) <= {"get", "list", "watch"}


@pytest.mark.cluster
def test_operator_accepts_the_environment_that_the_chart_gives_it(render: Render) -> None:
    def settings(**values: Any) -> Settings:
        entries = operator_container(render(**values))["env"]
        return Settings.from_env({entry["name"]: entry["value"] for entry in entries if "value" in entry})

    ours: dict[str, Any] = {
        "identity": "ocr-system/ocr-operator",
        "lease": "ocr-system/ocr-operator-leader",
    }
    assert settings() == Settings(**ours)
    assert settings(
        watchNamespaces=["invoices", "forms"],
        logLevel="debug",
        logFormat="json",
        inferenceImage={"tag": "9", "pullPolicy": "Never"},
        podUser="assigned",
        extraEnv=[{"name": "OCR_OPERATOR_SCRAPE_SECONDS", "value": "1"}],
    ) == Settings(
        watch_namespaces=("invoices", "forms"),
        exporter_namespace=("invoices",),
        log_level="debug",
        log_format="json",
        inference_image="ghcr.io/ocr-operator/ocr-inference:9",
        inference_image_cuda="ghcr.io/ocr-operator/ocr-inference:9-cuda",
        inference_image_vllm="ghcr.io/ocr-operator/ocr-inference:9-vllm",
        image_pull_policy="Never",
        pod_user="assigned",
        scrape_seconds=1.0,
        **ours,
    )


@pytest.mark.cluster
def test_probes_and_ports_are_those_of_the_operator(render: Render) -> None:
    documents = render()
    container = operator_container(documents)
    assert [port["containerPort"] for port in container["ports"]] == [Settings().port]
    assert only(documents, "Service")["spec"]["ports"][0]["targetPort"] == container["ports"][0]["name"]
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert probes == {
        "startup": {"path": "/livez", "port": "http"},
        "liveness": {"path": "/livez", "port": "http"},
        "readiness": {"path": "/readyz", "port": "http"},
    }


@pytest.mark.cluster
def test_services_put_nothing_into_the_environment(render: Render) -> None:
    """`OCR_OPERATOR_METRICS_SERVICE_HOST` would be refused as an unknown setting."""
    assert only(render(), "Deployment")["spec"]["template"]["spec"]["enableServiceLinks"] is False


@pytest.mark.cluster
def test_digest_wins_over_the_tag(render: Render) -> None:
    digest = "sha256:" + "0" * 64
    image = {"repository": "registry.example/ocr", "tag": "2.0", "digest": digest}
    container = operator_container(render(image=image, inferenceImage={"tag": "3.0"}))
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert container["image"] == f"registry.example/ocr@{digest}"
    assert environment["OCR_OPERATOR_INFERENCE_IMAGE"] == "ghcr.io/ocr-operator/ocr-inference:3.0"


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("values", "image"),
    [
        ({"repository": "here/ocr", "digest": "sha256:" + "0" * 64}, f"here/ocr:{VERSION}-cuda"),
        ({"tag": "3", "cuda": {"repository": "there/torch"}}, "there/torch:3-cuda"),
        ({"cuda": {"tag": "4"}}, "ghcr.io/ocr-operator/ocr-inference:4"),
        (
            {"repository": "here/ocr", "cuda": {"digest": "sha256:" + "1" * 64}},
            "here/ocr@sha256:" + "1" * 64,
        ),
        ({"cuda": None}, f"ghcr.io/ocr-operator/ocr-inference:{VERSION}-cuda"),
    ],
)
def test_larger_images_are_named_after_the_small_one(
    render: Render, values: dict[str, Any], image: str
) -> None:
    for which in ("cuda", "vllm"):
        renamed = {which if key == "cuda" else key: value for key, value in values.items()}
        container = operator_container(render(inferenceImage=renamed))
        environment = {entry["name"]: entry.get("value") for entry in container["env"]}
        assert environment[f"OCR_OPERATOR_INFERENCE_IMAGE_{which.upper()}"] == image.replace("cuda", which)


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"imagee": {}}, "'imagee' not allowed"),
        ({"image": {"tga": "1"}}, "'tga' not allowed"),
        ({"image": {"digest": "latest"}}, "'/image/digest'"),
        ({"logLevel": "loud"}, "'/logLevel'"),
        ({"prometheus": {"url": "prometheus:9090"}}, "'/prometheus/url'"),
        ({"placementPolicy": "random"}, "'/placementPolicy'"),
        ({"upgradesAtOnce": -1}, "'/upgradesAtOnce'"),
        ({"leaveToSchedulerSeconds": -2}, "'/leaveToSchedulerSeconds'"),
        ({"watchNamespaces": "default"}, "'/watchNamespaces'"),
        ({"watchNamespaces": ["Not a name"]}, "'/watchNamespaces/0'"),
        ({"terminationGracePeriodSeconds": 0}, "'/terminationGracePeriodSeconds'"),
        ({"podLabels": {"a": 1}}, "'/podLabels/a'"),
        ({"securityContext": {"readOnlyRootFileSystem": True}}, "'readOnlyRootFileSystem' not allowed"),
        ({"securityContext": {"runAsUser": "65532"}}, "'/securityContext/runAsUser'"),
        ({"podSecurityContext": {"runAsNonroot": True}}, "'runAsNonroot' not allowed"),
        ({"tolerations": [{"key": "a", "operater": "Exists"}]}, "'operater' not allowed"),
        ({"gpuExporter": {"tolerations": [{"efect": "NoSchedule"}]}}, "'efect' not allowed"),
        ({"affinity": {"nodeAffinity": {"required": {}}}}, "'required' not allowed"),
        ({"topologySpreadConstraints": [{"topologyKay": "zone"}]}, "'topologyKay' not allowed"),
        ({"resources": {"limits": {"memory": "lots"}}}, "'/resources/limits/memory'"),
        ({"extraEnv": [{"name": "A", "valueFrom": {"secretRef": {}}}]}, "'secretRef' not allowed"),
        ({"networkPolicy": {"clients": [{"podSelector": {"matchLabel": {}}}]}}, "'matchLabel' not allowed"),
        (
            {"networkPolicy": {"scrapers": [{"ipBlock": {"cidr": "::/0", "expect": []}}]}},
            "'expect' not allowed",
        ),
        ({"serviceAccount": {"create": False}}, "serviceAccount.name is needed"),
        ({"rbac": {"clusterWide": False}}, "rbac.clusterWide=false gives the operator Roles"),
        (
            {"metrics": {"service": {"enabled": False}, "serviceMonitor": {"enabled": True}}},
            "needs metrics.service",
        ),
    ],
)
def test_wrong_values_are_refused_by_name(run: Run, values: dict[str, Any], complaint: str) -> None:
    done = run("template", "ocr-operator", str(CHART), values=values)
    assert done.returncode != 0
    assert complaint in done.stderr


@pytest.mark.cluster
def test_older_kubernetes_is_refused(run: Run) -> None:
    done = run("template", "ocr-operator", str(CHART), "--kube-version", "1.29.9")
    assert done.returncode != 0
    assert "1.30" in done.stderr


@pytest.mark.cluster
def test_every_value_reaches_the_pod(render: Render) -> None:
    spec = only(
        render(
            imagePullSecrets=[{"name": "registry"}],
            priorityClassName="system-cluster-critical",
            nodeSelector={"pool": "control"},
            tolerations=[{"key": "control", "operator": "Exists"}],
            affinity={"nodeAffinity": {}},
            podAnnotations={"note": "x"},
            extraEnv=[{"name": "HTTPS_PROXY", "value": "http://proxy.example"}],
            resources={"limits": {"memory": "1Gi"}},
            terminationGracePeriodSeconds=5,
            serviceAccount={"create": False, "name": "other"},
        ),
        "Deployment",
    )["spec"]["template"]
    pod = spec["spec"]
    assert spec["metadata"]["annotations"]["note"] == "x"
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert pod["priorityClassName"] == "system-cluster-critical"
    assert pod["nodeSelector"]["pool"] == "control"
    assert pod["tolerations"] == [{"key": "control", "operator": "Exists"}]
    assert pod["affinity"] == {"nodeAffinity": {}}
    assert pod["terminationGracePeriodSeconds"] == 5
    assert pod["serviceAccountName"] == "other"
    assert pod["containers"][0]["resources"]["limits"] == {"memory": "1Gi"}
    assert {"name": "HTTPS_PROXY", "value": "http://proxy.example"} in pod["containers"][0]["env"]


@pytest.mark.cluster
def test_notes_name_the_next_commands(run: Run) -> None:
    done = run(
        "install",
        "mine",
        str(CHART),
        "--namespace",
        "ocr-system",
        "--dry-run=client",
        values={"watchNamespaces": ["forms"]},
    )
    assert done.returncode == 0, done.stderr
    notes = done.stdout.split("\nNOTES:\n", 1)[1]
    assert "kubectl --namespace ocr-system rollout status deployment/mine-ocr-operator" in notes
    [example] = re.findall(r"<<'EOF'\n(.*?)\nEOF\n", notes, flags=re.DOTALL)
    resource = yaml.safe_load(example)
    assert (resource["apiVersion"], resource["kind"]) == (names.API_VERSION, names.KIND)
    assert "kubectl --namespace forms apply" in notes
    assert "helm test mine --namespace ocr-system" in notes
    assert " &\n" not in notes, "what runs beside the next command isn't ready for it"
    commands = [shlex.split(line) for line in notes.splitlines() if line.startswith("kubectl ocr ")]
    assert [words[2] for words in commands] == ["doctor", "read"]
    for words in commands:
        parsed = cli.parse(words[2:])
        assert parsed.namespace == "forms"
        assert all((ROOT / file).is_file() for file in words[4:5] if "/" in file), "as a clone has it"


# --- helm test -----------------------------------------------------------------------------------------------------


def test_helm_test_is_a_pod_and_its_rights_and_leaves_nothing(hooks: Render) -> None:
    documents = hooks()
    kinds = ["Pod", "Role", "RoleBinding", "ServiceAccount"]
    assert sorted(document["kind"] for document in documents) == kinds
    for document in documents:
        annotations = document["metadata"]["annotations"]
        assert annotations["helm.sh/hook"] == "test"
        assert set(annotations["helm.sh/hook-delete-policy"].split(",")) == {
            "before-hook-creation",
            "hook-succeeded",
        }
        weight = int(annotations.get("helm.sh/hook-weight", 0))
        assert (weight == 0) == (document["kind"] == "Pod"), "its rights come before it"


def test_helm_test_may_do_what_its_program_does_and_no_more(hooks: Render) -> None:
    role = only(hooks(), "Role")
    assert verbs(role, "ocrdeployments") == {"create", "get", "patch", "delete"}
    assert verbs(role, "services") == {"get"}
    assert verbs(role, "pods") == {"list"}
    named = {tuple(rule.get("resourceNames", ())) for rule in role["rules"]}
    assert named == {(), ("ocr-selftest",)}
    [every] = [rule for rule in role["rules"] if rule["verbs"] == ["create"]]
    assert "resourceNames" not in every, "RBAC can't bind creating to a name"


def test_helm_test_runs_as_the_operator_does_where_it_watches(hooks: Render, render: Render) -> None:
    values = {"watchNamespaces": ["invoices", "forms"], "imagePullSecrets": [{"name": "pull"}]}
    documents = hooks(**values)
    pod = only(documents, "Pod")
    assert pod["metadata"]["namespace"] == "ocr-system"
    assert only(documents, "Role")["metadata"]["namespace"] == "invoices"
    [subject] = only(documents, "RoleBinding")["subjects"]
    assert subject["namespace"] == "ocr-system"
    [container] = pod["spec"]["containers"]
    operator = operator_container(render(**values))
    assert container["args"] == ["--namespace=invoices"]
    assert container["command"][-1] == "ocr_operator.selftest"
    assert (container["image"], container["securityContext"]) == (
        operator["image"],
        operator["securityContext"],
    )
    assert pod["spec"]["imagePullSecrets"] == [{"name": "pull"}]
    assert pod["spec"]["securityContext"]["runAsNonRoot"]
