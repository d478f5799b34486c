"""The definition of OcrIdlePolicy keeps its promises to readers: everything described, bounded, and on its page."""

import os

import pytest
import yaml

from ocr_operator.resources import policies
from ocr_wire import names
from tests.support import crd_docs, resources
from tests.support.paths import ROOT

SCHEMA = resources.crd_schema(names.POLICY_PLURAL)
FIELDS = {
    path: schema
    for part in ("spec", "status")
    for path, schema in crd_docs.fields(SCHEMA["properties"][part], part)
}
PAGE = ROOT / "docs" / "crd-idle-policy.md"


@pytest.mark.parametrize("path", FIELDS)
def test_every_field_has_a_description(path: str) -> None:
    text = FIELDS[path].get("description", "")
    assert len(text) > 8
    assert text.endswith("."), "descriptions are sentences"


@pytest.mark.parametrize("path", FIELDS)
def test_everything_is_bounded(path: str) -> None:
    schema = FIELDS[path]
    match schema["type"]:
        case "array":
            assert {"maxItems", "x-kubernetes-list-type"} <= schema.keys()
        case "string":
            assert "maxLength" in schema or "enum" in schema or schema.get("format") == "date-time"
        case "integer" if path.startswith("spec"):
            assert {"minimum", "maximum"} <= schema.keys()
        case "object" if "additionalProperties" in schema:
            assert "maxProperties" in schema


def test_what_is_in_a_list_has_no_default_in_the_schema() -> None:
    """The same as for resources: an unchanged file would be "configured" by each `kubectl apply`."""
    assert crd_docs.filled_into_items(SCHEMA["properties"]["spec"]) == []


def test_page_has_the_fields_of_the_definition() -> None:
    prose = PAGE.read_text(encoding="utf-8").partition(crd_docs.POLICY_MARK)[0]
    wanted = f"{prose}{crd_docs.POLICY_MARK}\n{crd_docs.render(SCHEMA, live=False)}"
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(wanted, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == wanted


def test_page_has_every_reason() -> None:
    source = (ROOT / "operator" / "ocr_operator" / "resources" / "policies.py").read_text(encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    for reason in ("Accepted", "UnknownTimeZone", "InvalidPolicy"):
        assert f"| `{reason}` |" in page
        assert reason == "Accepted" or f'"{reason}"' in source


def test_example_is_accepted_and_stands_on_the_pages() -> None:
    documents = list(
        yaml.safe_load_all((ROOT / "examples" / "office-hours.yaml").read_text(encoding="utf-8"))
    )
    assert [policies.parse(each).rejection for each in documents] == [None, None]
    shown = PAGE.read_text(encoding="utf-8").partition("```yaml\n")[2].partition("```")[0]
    assert yaml.safe_load(shown) == documents[1]
    page = (ROOT / "docs" / "live-settings.md").read_text(encoding="utf-8")
    assert list(yaml.safe_load_all(page.partition("```yaml\n")[2].partition("```")[0])) == documents
