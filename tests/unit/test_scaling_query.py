"""The query that autoscalers scale by: pages that wait for each awake replica, as promtool plays it."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import charts
from tests.support.chart_docs import CHART
from tests.support.paths import DOCS, ROOT
from tests.support.patience import PATIENCE

PAGE = (DOCS / "awake-set.md").read_text(encoding="utf-8").partition("## More replicas by themselves")[2]
QUERY = PAGE.partition("```\n")[2].partition("```")[0]
[RULE] = yaml.safe_load(PAGE.partition("```yaml\n")[2].partition("```")[0])["rules"]


def of_the_adapter(namespace: str, resource: str) -> str:
    """What a Prometheus adapter asks for one object: its configuration guide, `metricsQuery`."""
    labels = {each.get("resource"): label for label, each in RULE["resources"]["overrides"].items()}
    matchers = f'{labels["namespace"]}="{namespace}",{labels["ocrdeployment"]}="{resource}"'
    query: str = RULE["metricsQuery"]
    series = RULE["seriesQuery"].partition("{")[0]
    return query.replace("<<.Series>>", series).replace("<<.LabelMatchers>>", matchers)


def of_keda() -> str:
    _, scaled = yaml.safe_load_all((ROOT / "examples" / "keda.yaml").read_text(encoding="utf-8"))
    [trigger] = scaled["spec"]["triggers"]
    assert trigger["metricType"] == "Value", "a mean isn't divided by replicas once more"
    query: str = trigger["metadata"]["query"]
    return query


QUERIES = {
    "page": QUERY,
    "adapter": of_the_adapter("default", "invoices"),
    "keda": of_keda().replace("intake", "invoices"),
}


def waiting(
    pod: str, pages: int, *, resource: str = "invoices", namespace: str = "default"
) -> dict[str, str]:
    labels = f'namespace="{namespace}", pod="{pod}", ocr_operator_io_deployment="{resource}"'
    return {"series": f'ocr_model_waiting{{{labels}, model="pp-ocr"}}', "values": f"{pages}x5"}


def replicas(
    state: str, count: int, *, resource: str = "invoices", namespace: str = "default"
) -> dict[str, str]:
    labels = f'namespace="ocr-system", pod="o-1", resource_namespace="{namespace}", resource="{resource}"'
    return {"series": f'ocr_operator_resource_replicas{{{labels}, state="{state}"}}', "values": f"{count}x5"}


OTHERS = [
    waiting("invoices-2-a-b", 100, resource="invoices-2"), replicas("awake", 7, resource="invoices-2"),
    waiting("invoices-a-b", 100, namespace="other"), replicas("awake", 9, namespace="other"),
]  # fmt: skip
CASES: dict[str, tuple[list[dict[str, str]], float | None]] = {
    "who sleeps doesn't count": (
        [
            waiting("a", 6), waiting("b", 4), waiting("c", 0),
            replicas("awake", 2), replicas("ready", 3), replicas("wanted", 3),
        ],
        5,
    ),
    "nobody is awake": ([waiting("a", 3), replicas("awake", 0), replicas("ready", 1)], 3),
    "nothing waits": ([waiting("a", 0), replicas("awake", 0)], 0),
    "no operator says who is awake": ([waiting("a", 6)], None),
    "no pod is scraped": ([replicas("awake", 2)], None),
}  # fmt: skip
"""Series, and the answer; None is no answer, so that replicas stay as they are."""


@pytest.mark.cluster
@pytest.mark.parametrize("asked", QUERIES)
@pytest.mark.parametrize("case", CASES)
def test_pages_are_divided_by_the_replicas_that_are_awake(tmp_path: Path, case: str, asked: str) -> None:
    series, answer = CASES[case]
    labels = '{resource_namespace="default", resource="invoices"}' if asked == "adapter" else "{}"
    expected = [] if answer is None else [{"labels": labels, "value": answer}]
    played = {
        "rule_files": [],
        "tests": [
            {
                "interval": "1m",
                "input_series": [*series, *OTHERS],
                "promql_expr_test": [{"expr": QUERIES[asked], "eval_time": "3m", "exp_samples": expected}],
            }
        ],
    }
    (tmp_path / "query.yaml").write_text(yaml.safe_dump(played), encoding="utf-8")
    command = [str(charts.promtool()), "test", "rules", "query.yaml"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("asked", QUERIES)
def test_labels_are_those_that_the_monitors_of_the_chart_bring(asked: str) -> None:
    template = (CHART / "templates" / "podmonitor.yaml").read_text(encoding="utf-8")
    found = re.search(r"podTargetLabels: \[(.*)\]", template)
    assert found
    assert re.sub(r"[^A-Za-z0-9_]", "_", found[1]) in QUERIES[asked], (
        "as Prometheus writes the name of a label"
    )


def test_the_example_asks_for_the_metric_that_the_rule_names() -> None:
    resource, scaler = yaml.safe_load_all((ROOT / "examples" / "hpa.yaml").read_text(encoding="utf-8"))
    [metric] = scaler["spec"]["metrics"]
    asked: dict[str, Any] = metric["object"]
    assert asked["metric"]["name"] == RULE["name"]["as"]
    assert asked["describedObject"]["name"] == resource["metadata"]["name"]
    assert asked["target"] == {"type": "Value", "value": "4"}, "as the default of routing.maxQueuePerPod"
