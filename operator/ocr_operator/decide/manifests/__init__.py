"""The children of a resource: a module a kind, builders without I/O.

`desired` is deterministic: the same resource, defaults and token give the same manifests, byte for byte, so
that an unchanged resource means nothing to write.

- `deployment`: the Deployment and its pod template.
- `service`: the two Services.
- `secret`: the admin token.
- `budget`: the PodDisruptionBudget, where no other one selects the pods.
- `requests`: what the inference container asks of its node.
- `claim`: the ResourceClaim of a pod.
- `asked`: the digest of what the resource says about the template.
- `common`: what they share.
"""

from ocr_operator.decide.manifests.budget import budget, wants_budget
from ocr_operator.decide.manifests.claim import claim
from ocr_operator.decide.manifests.common import Defaults, Manifest, all_pods_service_name
from ocr_operator.decide.manifests.deployment import deployment, new_first_at_first
from ocr_operator.decide.manifests.secret import admin_secret
from ocr_operator.decide.manifests.service import all_pods_service, service
from ocr_operator.resources.spec import OcrDeployment

__all__ = [
    "Defaults",
    "Manifest",
    "admin_secret",
    "all_pods_service_name",
    "claim",
    "desired",
    "new_first_at_first",
    "wants_budget",
]


def desired(
    resource: OcrDeployment,
    defaults: Defaults,
    token: str,
    *,
    new_first: bool | None = None,
    with_budget: bool = False,
) -> list[Manifest]:
    """Secret, Services, Deployment and, if asked for, the budget, in the order in which they are to be written.

    `token` is the admin token of the pods: the one in the existing Secret, or a fresh random one when there
    is none. `new_first` is about a roll-out: see `deployment`.
    """
    return [
        admin_secret(resource, token),
        service(resource),
        all_pods_service(resource),
        deployment(resource, defaults, new_first=new_first),
        *([budget(resource)] if with_budget else []),
    ]
