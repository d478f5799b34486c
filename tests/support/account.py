"""A cluster as a ServiceAccount may see it: what a process with its token can do there."""

from dataclasses import replace
from pathlib import Path

import yaml

from tests.support.cluster import Place


def of(place: Place, account: str, namespace: str, folder: Path) -> Place:
    """The same cluster, with the token of that account in place of an administrator's certificate."""
    config = yaml.safe_load(place.kubeconfig.read_text(encoding="utf-8"))
    token = place.kubectl("create", "token", account, "-n", namespace).strip()
    config["users"][0]["user"] = {"token": token}
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config), encoding="utf-8")
    return replace(place, kubeconfig=kubeconfig)
