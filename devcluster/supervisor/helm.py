"""Installs the operator as a user does: `helm install` of the chart."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from devcluster.machine.layout import CHECKOUT

RELEASE: Final = "ocr-operator"
NAMESPACE: Final = "ocr-system"
CHART: Final = CHECKOUT / "charts" / "ocr-operator"


def install(helm: Path, kubeconfig: Path, chart: Path = CHART) -> tuple[str, ...]:
    """Return the command that installs the chart with its default values; it doesn't wait for the operator's pod."""
    return (
        str(helm),
        "install",
        RELEASE,
        str(chart),
        f"--namespace={NAMESPACE}",
        "--create-namespace",
        f"--kubeconfig={kubeconfig}",
    )


def environment(base: Mapping[str, str], home: Path) -> dict[str, str]:
    """Return the environment for Helm: the user's plugins, repositories and settings stay out of it."""
    kept = {key: value for key, value in base.items() if not key.startswith(("HELM_", "KUBE"))}
    return kept | {f"HELM_{kind}_HOME": str(home / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
