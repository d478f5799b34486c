"""What the labels of a sample say: which GPU it is, and which pod holds it. docs/dialects.md has the dialects."""

import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Final

from ocr_wire.placement import UUID

_HOLDERS: Final = (
    ("exported_pod", "exported_namespace"),
    ("exported_pod_name", "exported_pod_namespace"),
    ("pod_name", "pod_namespace"),
    ("pod", "namespace"),
)
"""Labels of a holder and its namespace, the surest first. `exported_…` is what Prometheus makes of the exporter's own
label where the target has one of the same name; `pod_name` is the exporter's with `--use-old-namespace`."""
_AMD: Final = re.compile(r"[A-Za-z0-9][-A-Za-z0-9]{7,63}")


def identity(labels: Mapping[str, str]) -> tuple[str, str]:
    """UUID (without the suffix of a sharing replica) and MIG instance; two empty strings where there is none."""
    uuid = (labels.get("UUID") or labels.get("uuid") or "").partition("::")[0]
    if not UUID.fullmatch(uuid):
        return _amd(labels), ""
    instance = labels.get("GPU_I_ID", "")[:16]
    return uuid, f"{instance}/{labels.get('GPU_I_PROFILE', '')[:32]}" if instance else ""


def holder(labels: Mapping[str, str], exporters: Collection[str] = ()) -> str:
    """Return `namespace/pod` of the pod that holds the GPU; empty where none does.

    `exporters` are pods that are scraped. Where the exporter names no pod, Prometheus puts the name of the scraped pod
    into the same label (with `honor_labels` too), so such a name says nothing of the GPU.
    """
    for pod_label, namespace_label in _HOLDERS:
        if pod := labels.get(pod_label):
            namespace = labels.get(namespace_label) or labels.get("namespace", "")
            name = f"{namespace}/{pod}"[:317]
            if name not in exporters:
                return name
    return ""


@lru_cache(1024)
def product(name: str) -> str:
    """One spelling for `modelName` and node labels, as GPU feature discovery makes it: dashes for blanks, odd
    characters dropped; no `-SHARED`, no `-MIG-…`.
    """
    dashed = "-".join(re.sub(r"[^A-Za-z0-9-_. ]", "", name[:256]).split())
    return re.sub(r"(?:-MIG-[0-9a-z.+-]{1,32})?(?:-SHARED)?$", "", dashed)


def is_amd(uuid: str) -> bool:
    """Return whether `identity` names an AMD GPU so: no runtime takes such a name."""
    return uuid.startswith("AMD-")


def _amd(labels: Mapping[str, str]) -> str:
    """Name an AMD GPU by its UUID or serial number, and its partition; such a name is never pinned."""
    known = labels.get("gpu_uuid") or labels.get("serial_number") or ""
    if "gpu_id" not in labels or not _AMD.fullmatch(known):
        return ""
    partition = labels.get("gpu_partition_id", "")
    return (
        f"AMD-{known}/{partition}"
        if partition.isdecimal() and len(partition) < 4 and int(partition)
        else f"AMD-{known}"
    )
