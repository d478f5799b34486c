"""What the children share: names, labels, owner reference, and the seal that tells a changed manifest."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ocr_operator.decide.manifests.asked import digest
from ocr_operator.resources.spec import OcrDeployment, Spec
from ocr_operator.settings import FIELD_MANAGER
from ocr_wire import engines, names

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Defaults:
    """Values that the operator's settings decide for every resource."""

    image: str
    """The inference image where `server.image` isn't set."""
    image_pull_policy: str | None = None
    """None leaves it to Kubernetes: Always for `:latest`, IfNotPresent otherwise."""
    image_pull_secrets: tuple[str, ...] = ()
    """Names of Secrets in the resource's namespace; the template may name more."""
    image_cuda: str = ""
    """The inference image for models whose engines need that one (`engines.IMAGES`); empty: `image`."""
    image_vllm: str = ""
    """The same for the largest one; empty: the one before."""
    fixed_user: bool = True
    """Whether pods name the image's user and group; else the cluster assigns some."""

    def image_of(self, spec: Spec) -> str:
        """Return the image of a resource's pods."""
        needed = engines.image_of(model.engine for model in spec.models)
        larger = {"cuda": self.image_cuda, "vllm": self.image_vllm or self.image_cuda}
        return spec.server.image or larger.get(needed) or self.image


def all_pods_service_name(name: str) -> str:
    """The headless Service that has every pod of resource `name`, ready or not."""
    return f"{name}-all"


def selector(name: str) -> dict[str, str]:
    """Select the pods of resource `name`. A Deployment can never change its selector, so this is one label."""
    return {names.LABEL_DEPLOYMENT: name}


def labels(name: str) -> dict[str, str]:
    """The labels of every child of resource `name`, and of its pods."""
    return {
        names.LABEL_NAME: names.CONTAINER,
        names.LABEL_INSTANCE: name,
        names.LABEL_COMPONENT: "inference",
        names.LABEL_MANAGED_BY: FIELD_MANAGER,
        **selector(name),
    }


def child(deployment: OcrDeployment, api_version: str, kind: str, name: str, **parts: Any) -> Manifest:
    """A manifest that belongs to `deployment`: garbage collection removes it with the resource."""
    manifest = {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": deployment.namespace,
            "labels": labels(deployment.name),
            "ownerReferences": [
                {
                    "apiVersion": names.API_VERSION,
                    "kind": names.KIND,
                    "name": deployment.name,
                    "uid": deployment.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        **parts,
    }
    return _sealed(manifest)


def _sealed(manifest: Manifest) -> Manifest:
    """Add the hash of the manifest as an annotation.

    A subset comparison can't see that a field is no longer wanted, such as a variable removed from the
    template: what is there still has all that we want. The hash differs, so the manifest is applied, and
    server-side apply removes the field.
    """
    manifest["metadata"]["annotations"] = {names.ANNOTATION_DESIRED: digest(manifest)}
    return manifest


def noted(manifest: Mapping[str, Any], notes: Mapping[str, str]) -> Manifest:
    """Return a sealed manifest with more annotations of ours, of which the seal knows, too."""
    meta = dict(manifest["metadata"])
    before = meta["annotations"]
    seal = {names.ANNOTATION_DESIRED: digest([before[names.ANNOTATION_DESIRED], notes])}
    meta["annotations"] = {**before, **notes, **seal}
    return {**manifest, "metadata": meta}
