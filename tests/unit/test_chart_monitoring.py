"""Monitors, alerts, dashboard and network policies of the chart: off by default, and about what there is."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from ocr_operator.decide import manifests
from tests.support import charts, resources
from tests.support.chart_docs import CHART
from tests.support.charts import Documents, only
from tests.support.paths import DOCS, ROOT
from tests.support.patience import PATIENCE

Render = Callable[..., Documents]
ALERTS: dict[str, Any] = yaml.safe_load((CHART / "monitoring" / "alerts.yaml").read_text(encoding="utf-8"))
DASHBOARD: dict[str, Any] = json.loads((CHART / "monitoring" / "dashboard.json").read_text(encoding="utf-8"))
ON = {"enabled": True}
RULES = {"prometheusRule": ON | {"runbookUrl": "https://runbooks.example/"}}
RUNBOOKS = {
    "gpu-memory-high",
    "leader-lost",
    "model-stuck-loading",
    "no-fit",
    "page-stuck",
    "settings-not-applied",
    "worker-deaths",
}
"""A failure each, that somebody is woken for."""


@pytest.fixture
def render(tmp_path: Path) -> Render:
    return lambda **values: charts.render(tmp_path, values)


def alerts() -> list[dict[str, Any]]:
    return [rule for group in ALERTS["groups"] for rule in group["rules"]]


def queries() -> Iterator[str]:
    """Every query of the alerts and of the dashboard."""
    for rule in alerts():
        yield rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        yield variable.get("definition", "")


def documented() -> set[str]:
    """The series that our pages name: those of a histogram, too."""
    found: set[str] = set()
    for page in ("metrics.md", "metrics-server.md", "gpu-exporter.md"):
        rows = re.findall(r"^\| `([A-Za-z_]\w+)`.*$", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE)
        found.update(rows)
    return found | {f"{name}_bucket" for name in found if name.endswith("_seconds")}


def series(query: str) -> set[str]:
    """The names of series in a query: what is neither a function, a label nor a word of the language."""
    bare = re.sub(r'\{[^}]*\}|\[[^\]]*\]|"[^"]*"', "", query)
    bare = re.sub(r"\b(by|on|without|ignoring)\s*\([^)]*\)", "", bare)
    bare = bare.replace("label_values(ocr_build_info, namespace)", "ocr_build_info")
    words = set(re.findall(r"\b[A-Za-z_]\w*\b(?!\s*\()", bare))
    return words - {"or", "and", "unless", "by", "on", "sum", "max", "count"}


def test_names_of_series_are_found_in_a_query() -> None:
    query = 'sum by (le, pod) (rate(a_bucket{b="c"}[5m])) > 0 unless on (pod) max(d) or label_replace(e, "x", "y")'
    assert series(query) == {"a_bucket", "d", "e"}


def test_every_series_that_is_asked_for_is_documented() -> None:
    asked = set().union(*map(series, queries()))
    assert len(asked) > 30
    assert asked - documented() == set()


def test_each_failure_has_one_alert_and_a_runbook() -> None:
    found = [rule["annotations"]["runbook"] for rule in alerts()]
    assert sorted(found) == sorted(RUNBOOKS)
    for rule in alerts():
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"].keys() == {"runbook", "summary", "description"}
        camel = "".join(word.title() for word in rule["annotations"]["runbook"].split("-"))
        assert rule["alert"].lower() == f"ocr{camel}".lower()


def test_runbook_of_each_alert_is_there() -> None:
    for rule in alerts():
        page = DOCS / "runbooks" / f"{rule['annotations']['runbook']}.md"
        assert page.is_file(), page


def test_alerts_are_documented() -> None:
    page = (DOCS / "metrics.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(Ocr\w+)` \| (\w+) \|", page, re.MULTILINE))
    assert rows == {rule["alert"]: rule["labels"]["severity"] for rule in alerts()}


def test_panels_have_ids_and_places_of_their_own() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}", "whatever the data source is called"


def differences(ours: Any, theirs: Any, path: str = "") -> Iterator[str]:
    """What of a document another one lacks, or has otherwise, by path."""
    match ours, theirs:
        case dict(), dict():
            for key, value in ours.items():
                yield from differences(value, theirs.get(key), f"{path}.{key}")
        case list(), list() if len(ours) == len(theirs):
            for one, other in zip(ours, theirs, strict=True):
                yield from differences(one, other, f"{path}[]")
        case _:
            if ours != theirs:
                yield path


def test_dashboard_is_what_grafana_reads() -> None:
    """By the types that Grafana generates from its schemas, those of each panel's kind among them: a field that they
    don't have, or of another type, is lost when it is read."""
    register_default_plugins()
    read = json.loads(JSONEncoder().encode(Dashboard.from_json(DASHBOARD)))
    assert set(differences(DASHBOARD, read)) == {".templating.list[].definition"}, "what its editor shows"


@pytest.mark.cluster
def test_all_of_it_is_off_by_default(render: Render) -> None:
    assert not {each["kind"] for each in render()} & {
        *("NetworkPolicy", "PodMonitor", "ServiceMonitor", "PrometheusRule", "ConfigMap"),
    }


@pytest.mark.cluster
def test_rules_are_those_of_the_file_with_links_threshold_and_labels(render: Render) -> None:
    rule = {
        "prometheusRule": ON
        | {"gpuMemoryPercent": 80, "labels": {"release": "p"}, "alertLabels": {"team": "t"}}
    }
    found = only(render(metrics=rule), "PrometheusRule")
    assert found["metadata"]["labels"]["release"] == "p"
    rendered = {each["alert"]: each for group in found["spec"]["groups"] for each in group["rules"]}
    assert rendered.keys() == {each["alert"] for each in alerts()}
    version = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))["version"]
    for each in alerts():
        book = each["annotations"]["runbook"]
        made = rendered[each["alert"]]
        assert made["annotations"]["runbook_url"].endswith(f"/blob/v{version}/docs/runbooks/{book}.md")
        assert made["labels"] == each["labels"] | {"team": "t"}
        assert made["expr"] == each["expr"].replace("> 95", "> 80")
    assert rendered["OcrGpuMemoryHigh"]["expr"].count("> 80") == 2


@pytest.mark.cluster
def test_alerts_fire_when_they_should_and_not_before(render: Render, tmp_path: Path) -> None:
    """Played by promtool with the rules as they are installed."""
    tool = charts.promtool()
    (tmp_path / "rules.yaml").write_text(
        yaml.safe_dump(only(render(metrics=RULES), "PrometheusRule")["spec"])
    )
    (tmp_path / "alerts.yaml").write_text(
        (ROOT / "tests" / "golden" / "alerts.yaml").read_text(encoding="utf-8")
    )
    promtool(tool, tmp_path, "check", "rules", "rules.yaml")
    promtool(tool, tmp_path, "test", "rules", "alerts.yaml")


@pytest.mark.cluster
def test_queries_of_the_dashboard_are_prometheus_own_language(tmp_path: Path) -> None:
    tool = charts.promtool()
    asked = [
        each.replace("$__rate_interval", "5m") for each in queries() if not each.startswith("label_values")
    ]
    rules = [{"record": f"query_{place}", "expr": each} for place, each in enumerate(filter(None, asked))]
    (tmp_path / "queries.yaml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    promtool(tool, tmp_path, "check", "rules", "queries.yaml")


def promtool(tool: Path, folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        [str(tool), *arguments], cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.cluster
def test_dashboard_is_found_by_the_sidecar_of_grafana(render: Render) -> None:
    board = {"dashboard": ON | {"annotations": {"grafana_folder": "OCR"}}}
    found = only(render(metrics=board), "ConfigMap")
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert found["metadata"]["annotations"] == {"grafana_folder": "OCR"}
    assert json.loads(found["data"]["ocr-operator.json"]) == DASHBOARD


@pytest.mark.cluster
def test_scrapes_have_the_token_that_the_operator_asks_for(render: Render) -> None:
    documents = render(metrics={"tokenSecretName": "scraper", "serviceMonitor": ON})
    [endpoint] = only(documents, "ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["authorization"] == {"credentials": {"name": "scraper", "key": "token"}}
    pod = only(documents, "Deployment")["spec"]["template"]["spec"]
    [mount] = [each for each in pod["containers"][0]["volumeMounts"] if each["name"] == "metrics"]
    variables = {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}
    assert variables["OCR_OPERATOR_METRICS_TOKEN_FILE"] == f"{mount['mountPath']}/token"
    assert [each["secret"]["secretName"] for each in pod["volumes"] if "secret" in each] == ["scraper"]


def inference_pod() -> dict[str, Any]:
    """The template of a pod as the operator makes it."""
    made = manifests.desired(resources.make_deployment(), manifests.Defaults("i"), "t")[-1]
    found: dict[str, Any] = made["spec"]["template"]
    return found


@pytest.mark.cluster
@pytest.mark.parametrize("namespaces", [[], ["forms", "invoices"]])
def test_pod_monitor_finds_the_pods_that_the_operator_makes(render: Render, namespaces: list[str]) -> None:
    monitor = only(render(watchNamespaces=namespaces, metrics={"podMonitor": ON}), "PodMonitor")["spec"]
    assert monitor["namespaceSelector"] == ({"matchNames": namespaces} if namespaces else {"any": True})
    pod = inference_pod()
    assert monitor["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert set(monitor["podTargetLabels"]) <= pod["metadata"]["labels"].keys()
    ports = {each["name"] for each in pod["spec"]["containers"][0]["ports"]}
    [endpoint] = monitor["podMetricsEndpoints"]
    assert endpoint["port"] in ports
    assert [each["targetLabel"] for each in endpoint["relabelings"]] == ["node"], "as alerts want it"


@pytest.mark.cluster
def test_pod_monitor_finds_the_exporter(render: Render) -> None:
    on = {"podMonitor": ON | {"labels": {"release": "p"}}}
    documents = render(watchNamespaces=["forms"], metrics=on, gpuExporter=ON)
    monitor = only(documents, "PodMonitor", "ocr-operator-gpu-exporter")
    pod = only(documents, "DaemonSet")["spec"]["template"]
    assert monitor["metadata"]["namespace"] == only(documents, "DaemonSet")["metadata"]["namespace"]
    assert "namespaceSelector" not in monitor["spec"], "it looks in its own"
    assert monitor["metadata"]["labels"]["release"] == "p"
    assert selects(monitor["spec"]["selector"], pod["metadata"]["labels"])
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] in {each["name"] for each in pod["spec"]["containers"][0]["ports"]}
    assert endpoint["path"] == pod["spec"]["containers"][0]["readinessProbe"]["httpGet"]["path"]


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a label selector with the operator In, at most, selects a pod."""
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        each["operator"] == "In" and labels.get(each["key"]) in each["values"]
        for each in selector.get("matchExpressions", ())
    )


@pytest.mark.cluster
def test_network_policies_let_the_operator_clients_and_scrapers_in(render: Render) -> None:
    scraper = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    policy = {"enabled": True, "scrapers": [scraper]}
    documents = render(watchNamespaces=["invoices"], networkPolicy=policy)
    own = only(documents, "NetworkPolicy", "ocr-operator")["spec"]
    deployment = only(documents, "Deployment")["spec"]["template"]
    labels = deployment["metadata"]["labels"]
    assert own["podSelector"]["matchLabels"].items() <= labels.items()
    port = deployment["spec"]["containers"][0]["ports"][0]["name"]
    assert own["ingress"] == [{"ports": [{"port": port, "protocol": "TCP"}], "from": [scraper]}]

    made = only(documents, "NetworkPolicy", "ocr-operator-inference")
    pod = inference_pod()
    assert made["metadata"]["namespace"] == "invoices"
    assert made["spec"]["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    [rule] = made["spec"]["ingress"]
    assert rule["ports"] == [{"port": pod["spec"]["containers"][0]["ports"][0]["name"], "protocol": "TCP"}]
    operator, helpers, *others = rule["from"]
    assert operator["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "ocr-system"}
    assert selects(operator["podSelector"], labels)
    assert helpers["podSelector"] == made["spec"]["podSelector"], "pods read pages for each other"
    assert others == [scraper, {"podSelector": {}}]
    assert made["spec"]["policyTypes"] == own["policyTypes"] == ["Ingress"]


@pytest.mark.cluster
def test_network_policies_of_pods_are_where_they_are_asked_for(render: Render) -> None:
    client = {"podSelector": {"matchLabels": {"app": "intake"}}}
    documents = render(networkPolicy={"enabled": True, "namespaces": ["a", "b"], "clients": [client]})
    found = [each for each in documents if each["kind"] == "NetworkPolicy"]
    assert [each["metadata"]["namespace"] for each in found] == ["ocr-system", "a", "b"]
    assert "from" not in found[0]["spec"]["ingress"][0], "everybody in the cluster may scrape the operator"
    assert found[1]["spec"]["ingress"][0]["from"][2:] == [client]
    alone = [each for each in render(networkPolicy=ON) if each["kind"] == "NetworkPolicy"]
    assert [each["metadata"]["namespace"] for each in alone] == ["ocr-system"]


@pytest.mark.cluster
@pytest.mark.parametrize("scrapers", [[], [{"ipBlock": {"cidr": "10.0.0.0/8"}}]])
def test_exporter_is_reached_by_the_operator_and_scrapers(
    render: Render, scrapers: list[dict[str, Any]]
) -> None:
    documents = render(networkPolicy=ON | {"scrapers": scrapers}, gpuExporter=ON)
    policy = only(documents, "NetworkPolicy", "ocr-operator-gpu-exporter")["spec"]
    pod = only(documents, "DaemonSet")["spec"]["template"]
    assert selects(policy["podSelector"], pod["metadata"]["labels"])
    [rule] = policy["ingress"]
    assert [each["port"] for each in rule["ports"]] == [pod["spec"]["containers"][0]["ports"][0]["name"]]
    operator = only(documents, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert ("from" in rule) == bool(scrapers), "without scrapers it is as open as the operator's own port"
    if scrapers:
        first, *others = rule["from"]
        assert selects(first["podSelector"], operator)
        assert others == scrapers


@pytest.mark.cluster
def test_pod_of_helm_test_is_let_in_and_is_no_pod_of_the_operator(render: Render, tmp_path: Path) -> None:
    documents = render(watchNamespaces=["invoices"], networkPolicy=ON)
    labels = only(charts.hooks(tmp_path, {}), "Pod")["metadata"]["labels"]
    inference = only(documents, "NetworkPolicy", "ocr-operator-inference")["spec"]
    assert selects(inference["ingress"][0]["from"][0]["podSelector"], labels)
    for selector in (
        only(documents, "NetworkPolicy", "ocr-operator")["spec"]["podSelector"],
        only(documents, "Deployment")["spec"]["selector"],
        only(documents, "PodDisruptionBudget")["spec"]["selector"],
        {"matchLabels": only(documents, "Service")["spec"]["selector"]},
    ):
        assert not selects(selector, labels)


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"networkPolicy": ON}, True),
        ({"networkPolicy": ON | {"namespaces": ["a"]}}, False),
        ({"networkPolicy": ON, "watchNamespaces": ["a"]}, False),
        ({}, False),
    ],
)
def test_notes_say_where_no_inference_pod_has_a_policy(
    values: dict[str, Any], said: bool, tmp_path: Path
) -> None:
    done = charts.run(tmp_path, "install", "o", str(CHART), "--dry-run=client", values=values)
    assert done.returncode == 0, done.stderr
    assert ("protects no inference pod" in done.stdout.split("\nNOTES:\n")[1]) is said


@pytest.mark.cluster
def test_resources_chart_brings_the_policy_of_its_namespace(render: Render, tmp_path: Path) -> None:
    """The same as the operator's chart would make there."""
    client = {"podSelector": {"matchLabels": {"app": "intake"}}}
    chart = CHART.parent / "ocr-resources"
    for peers in ({}, {"clients": [client], "scrapers": [client]}):
        [made] = charts.render(tmp_path, {"networkPolicy": ON | peers}, chart=chart)
        documents = render(networkPolicy=ON | {"namespaces": ["ocr-system"]} | peers)
        theirs = only(documents, "NetworkPolicy", "ocr-operator-inference")
        assert made["metadata"]["namespace"] == theirs["metadata"]["namespace"]
        [ours], [rule] = made["spec"]["ingress"], theirs["spec"]["ingress"]
        assert {**made["spec"], "ingress": ()} == {**theirs["spec"], "ingress": ()}
        operator, here, *others = ours["from"]
        assert (ours["ports"], others) == (rule["ports"], rule["from"][1:])
        caller = only(charts.hooks(tmp_path, {}), "Pod")
        assert operator["namespaceSelector"] == rule["from"][0]["namespaceSelector"]
        assert {*here} == {"podSelector"}, "of its own namespace, whichever that is: a parent chart's"
        for pod in (only(documents, "Deployment")["spec"]["template"], caller):
            assert selects(operator["podSelector"], pod["metadata"]["labels"])
            assert selects(here["podSelector"], pod["metadata"]["labels"])
        assert not selects(here["podSelector"], client["podSelector"]["matchLabels"])
    assert charts.render(tmp_path, {"networkPolicy": None}, chart=chart) == []
    to = ("install", "r", str(chart), "--dry-run=client", "--namespace=documents")
    said = charts.run(tmp_path, *to, values={"networkPolicy": ON}).stdout
    assert "NetworkPolicy of documents lets in operators of that namespace and of ocr-system" in said
