"""What the children share: names, labels, owner reference."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the operator's settings decide for every resource."""

    image: str
    """The inference image where `server.image` isn't set."""
    image_pull_policy: str | None = None
    """None leaves it to Kubernetes: Always for `:latest`, IfNotPresent otherwise."""


def admin_secret_name(name: str) -> str:
    """The Secret of the admin token of resource `name` (key `token`)."""
    return f"{name}-ocr-admin"


def all_pods_service_name(name: str) -> str:
    """The headless Service that has every pod of resource `name`, ready or not."""
    return f"{name}-all"
