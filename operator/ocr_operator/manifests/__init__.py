"""The children of a resource: a module a kind, builders without I/O.

`desired` is deterministic: the same resource, defaults and token give the same manifests, byte for byte, so
that an unchanged resource means nothing to write.
"""

from typing import Any

from ocr_operator.manifests.common import Defaults
from ocr_operator.spec import OcrDeployment

__all__ = ["Defaults", "desired"]


def desired(deployment: OcrDeployment, defaults: Defaults, token: str) -> list[dict[str, Any]]:
    """Secret, Services and Deployment, in the order in which they are to be written.

    `token` is the admin token of the pods: the one in the existing Secret, or a fresh random one when there
    is none.
    """
    raise NotImplementedError
