"""Our resource definitions in a cluster that has none: applied until they are served, deleted until they are gone."""

import contextlib
import functools
import json
import time
from collections.abc import Callable
from typing import Any, Final

import yaml

from devcluster.errors import DevclusterError
from tests.support.paths import CRDS
from tests.support.waiting import until

Kubectl = Callable[..., str]

_PATIENCE_SECONDS: Final = 5.0


def read() -> list[dict[str, Any]]:
    """Return those of `crds/`."""
    return [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(CRDS.glob("*.yaml"))]


def names() -> list[str]:
    """Return `crd/<name>` of each of `crds/`."""
    return [f"crd/{each['metadata']['name']}" for each in read()]


def established(kubectl: Kubectl, *wanted: str) -> None:
    """Wait until the API server serves them.

    `kubectl wait --for=condition=Established` fails when it comes before the first condition: the API server writes
    `conditions: null` first, and kubectl takes that for a mistake (kubernetes/kubernetes#66439, still so in 1.36).
    """
    for name in wanted or names():
        until(functools.partial(_condition, kubectl, name, "Established"), what=f"{name} is established")


def apply(kubectl: Kubectl) -> None:
    """Apply those of `crds/`, server-side, and wait until they are served."""
    kubectl("apply", "--server-side", "-f", str(CRDS))
    established(kubectl)


def remove(kubectl: Kubectl, *wanted: str) -> None:
    """Delete those that there are, of `crds/` or those that are named, with all their resources.

    One that is deleted soon after a change can stay `Terminating` for five minutes: the API server's finalizer meets
    a conflict, counts on an event that it then ignores as its own, and looks again at the next resync. Any change of
    the object makes it look at once (`updateCustomResourceDefinition` in kubernetes' crd_finalizer.go, 1.36).
    """
    left = list(wanted or names())
    kubectl("delete", "--ignore-not-found", "--wait=false", *left)
    patience = time.monotonic() + _PATIENCE_SECONDS

    def gone() -> bool:
        nonlocal patience
        found = kubectl("get", "--ignore-not-found", "-o", "name", *left).split()
        if found and time.monotonic() > patience:
            patience = time.monotonic() + _PATIENCE_SECONDS
            for name in found:
                with contextlib.suppress(DevclusterError):  # gone meanwhile
                    kubectl("label", "--overwrite", name, f"touched={time.monotonic_ns()}")
        return not found

    until(gone, what=f"{', '.join(left)} gone")


def _condition(kubectl: Kubectl, name: str, wanted: str) -> bool:
    found = json.loads(kubectl("get", name, "-o", "json"))
    conditions = found.get("status", {}).get("conditions") or ()
    return any(each["type"] == wanted and each["status"] == "True" for each in conditions)
