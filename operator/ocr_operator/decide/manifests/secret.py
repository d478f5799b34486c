"""The Secret with the admin token: what the operator proves itself with to the pods of one resource."""

import base64

from ocr_operator.decide.manifests import common
from ocr_operator.resources.spec import OcrDeployment
from ocr_wire import names


def admin_secret(deployment: OcrDeployment, token: str) -> common.Manifest:
    """`data` and not `stringData`: the latter is never read back, so it can't be compared."""
    return common.child(
        deployment,
        "v1",
        "Secret",
        names.admin_secret(deployment.name),
        type="Opaque",
        data={names.ADMIN_KEY: base64.b64encode(token.encode()).decode()},
    )
