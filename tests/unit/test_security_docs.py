"""The threat model says what is so: the operator's permissions, and policies that fit the programs."""

import re
from pathlib import Path
from typing import Any, Final

import yaml

from ocr_wire import names
from tests.support.paths import DOCS, ROOT

PAGE: Final = DOCS / "security.md"
RULES: Final = ROOT / "charts" / "ocr-operator" / "templates" / "rbac.yaml"
RULE: Final = re.compile(
    r"apiGroups: .*\n +resources: \[(?P<resources>[^\]]*)\]\n +verbs: \[(?P<verbs>[^\]]*)\]"
)


def words(text: str) -> set[str]:
    return {each.strip() for each in text.split(",")}


def granted() -> dict[str, set[str]]:
    """Verbs by resource, of all rules in the chart's template."""
    found: dict[str, set[str]] = {}
    for rule in RULE.finditer(RULES.read_text(encoding="utf-8")):
        for resource in words(rule["resources"]):
            found[resource] = found.get(resource, set()) | words(rule["verbs"])
    return found


def told() -> dict[str, set[str]]:
    section = (
        PAGE.read_text(encoding="utf-8").partition("\n## What the operator may do\n")[2].partition("\n## ")[0]
    )
    rows = re.findall(r"^\| (`[^|]*) \| ([a-z, ]+)[^|]* \| [^|]+ \|$", section, re.MULTILINE)
    return {resource: words(verbs) for cell, verbs in rows for resource in re.findall(r"`([^`]+)`", cell)}


def test_permissions_of_the_operator_are_those_of_the_chart() -> None:
    assert granted() == told()


def policies() -> list[dict[str, Any]]:
    blocks = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [yaml.safe_load(block) for block in blocks]


def test_network_policies_select_the_pods_and_ports_that_there_are() -> None:
    inference, operator = policies()
    assert inference["spec"]["podSelector"]["matchExpressions"][0]["key"] == names.LABEL_DEPLOYMENT
    assert inference["spec"]["ingress"][0]["ports"] == [{"port": names.DEFAULT_PORT, "protocol": "TCP"}]
    labels = operator["spec"]["podSelector"]["matchLabels"]
    assert inference["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"] == labels
    helpers = (RULES.parent / "_helpers.tpl").read_text(encoding="utf-8")
    assert all(f"{key}: {value}" in helpers for key, value in labels.items())
    deployment = (RULES.parent / "deployment.yaml").read_text(encoding="utf-8")
    assert f"containerPort: {operator['spec']['ingress'][0]['ports'][0]['port']}\n" in deployment


def test_what_guards_is_there() -> None:
    """Files in the tables; the ends of folders, too, which no other test looks at."""
    cited = re.findall(
        r"`((?:inference|operator|wire|plugin|tests|charts)/[\w./-]+)`", PAGE.read_text(encoding="utf-8")
    )
    assert len(cited) > 15
    assert [each for each in cited if not Path(ROOT / each).exists()] == []
