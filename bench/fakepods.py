"""Pods whose engine takes declared times and no CPU: for what happens between pods, where OCR would share the cores.

The operator knows no fake engine. So a ConfigMap has another configuration of the server, and the resource's template
makes the pods read that one.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from ocr_wire import names

NAME: Final = "fake-engine"
MODEL: Final = "pp-ocr"


def config_map(options: Mapping[str, float]) -> dict[str, Any]:
    """With the options of the fake engine, such as `load_seconds`."""
    models = [{"name": MODEL, "engine": "fake", "gpuMemory": "1Gi", "options": dict(options)}]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": NAME},
        "data": {names.CONFIG_FILE: json.dumps({"models": models})},
    }


def template(**spec: Any) -> dict[str, Any]:
    """`spec.template` of a resource with one model, `pp-ocr`; `spec` is added to the pods."""
    mount = {"name": NAME, "mountPath": f"/etc/{NAME}", "readOnly": True}
    container = {
        "name": names.CONTAINER,
        "args": ["serve", "--config", f"/etc/{NAME}/{names.CONFIG_FILE}"],
        "volumeMounts": [mount],
    }
    volume = {"name": NAME, "configMap": {"name": NAME}}
    return {"spec": {"containers": [container], "volumes": [volume], **spec}}
