"""The resources that the demo applies."""

from pathlib import Path
from typing import Final

import yaml

from devcluster.machine.layout import CHECKOUT

EXAMPLES: Final = CHECKOUT / "examples"
TURNS_NODE: Final = "gpu-c"
TURNS_MEMORY: Final = "30Gi"
"""Of a simulated GPU's 45Gi."""


def resource_of(engine: str, folder: Path) -> Path:
    """Return the manifest to apply. For transformers: the example with a tiny checkpoint, made now, as its model."""
    example = EXAMPLES / "shared-gpu.yaml"
    if engine == "rapidocr":
        return example
    from tests.support.checkpoints import make_deepseek_ocr  # noqa: PLC0415 - torch, which the other engine lacks

    checkpoint = folder / "checkpoints" / "tiny"
    checkpoint.mkdir(parents=True)
    make_deepseek_ocr(checkpoint)
    manifest = yaml.safe_load(example.read_text(encoding="utf-8"))
    model = {
        "name": "tiny",
        "engine": "transformers",
        "source": {"path": str(checkpoint)},
        "gpuMemory": "1Gi",
    }
    manifest["spec"]["models"] = [model]
    written = folder / "invoices.yaml"
    written.write_text(yaml.safe_dump(manifest, sort_keys=False), encoding="utf-8")
    return written


def taking_turns(manifest: Path, folder: Path, name: str, replicas: int) -> Path:
    """Return another resource with the same model: large, on demand, and bound to one node."""
    resource = yaml.safe_load(manifest.read_text(encoding="utf-8"))
    resource["metadata"]["name"] = name
    spec = resource["spec"]
    spec |= {
        "replicas": replicas,
        "models": [{**spec["models"][0], "gpuMemory": TURNS_MEMORY}],
        "template": {"spec": {"nodeSelector": {"kubernetes.io/hostname": TURNS_NODE}}},
    }
    spec["gpu"]["memoryPolicy"] = "onDemand"
    written = folder / f"{name}.yaml"
    written.write_text(yaml.safe_dump(resource, sort_keys=False), encoding="utf-8")
    return written
