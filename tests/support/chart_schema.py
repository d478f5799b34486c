"""Parts of the charts' `values.schema.json` that are Kubernetes' own types, made from the definition of our resource.

That has the types of a PodSpec in `spec.template.spec`, of the version of Kubernetes that it names. There an object may
have fields that it doesn't name; values of a chart may not, so that a typo is refused instead of being dropped.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

from tests.support.paths import ROOT
from tests.support.resources import crd_schema

Schema = dict[str, Any]

CHARTS: Final = ROOT / "charts"
USED: Final = {
    "ocr-operator": (
        "affinity",
        "envVarSource",
        "labelSelector",
        "podSecurityContext",
        "resources",
        "securityContext",
        "toleration",
        "topologySpreadConstraint",
    ),
    "ocr-resources": ("labelSelector",),
}
"""Types that the schema of a chart refers to, as `#/definitions/NAME`."""


@cache
def _types() -> dict[str, Schema]:
    pod = crd_schema("ocrdeployments")["properties"]["spec"]["properties"]["template"]["properties"]["spec"]
    fields = pod["properties"]
    container = fields["containers"]["items"]["properties"]
    spread = fields["topologySpreadConstraints"]["items"]
    return {
        "affinity": fields["affinity"],
        "envVarSource": container["env"]["items"]["properties"]["valueFrom"],
        "labelSelector": spread["properties"]["labelSelector"],
        "podSecurityContext": fields["securityContext"],
        "resources": container["resources"],
        "securityContext": container["securityContext"],
        "toleration": fields["tolerations"]["items"],
        "topologySpreadConstraint": spread,
    }


def closed(schema: Schema) -> Schema:
    """Return a schema of a definition as JSON Schema has it: null is a type, and no object has unnamed fields."""
    if "type" not in schema:  # a quantity: 1Gi, or 2
        return {"type": ["string", "number", "null"], "pattern": schema["pattern"]}
    made: Schema = {"type": [schema["type"], "null"]}
    if "items" in schema:
        made["items"] = closed(schema["items"])
    if schema["type"] == "object":
        more = schema.get("additionalProperties")
        made["additionalProperties"] = closed(more) if more else False
        made["properties"] = {key: closed(each) for key, each in schema.get("properties", {}).items()}
    return made


def generated() -> dict[Path, str]:
    """Return the schemas as they should be: what else is in them stays."""
    found = {}
    for chart, names in USED.items():
        path = CHARTS / chart / "values.schema.json"
        schema = json.loads(path.read_text(encoding="utf-8"))
        schema.setdefault("definitions", {}).update({name: closed(_types()[name]) for name in names})
        found[path] = json.dumps(schema, indent=2) + "\n"
    return found
