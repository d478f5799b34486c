"""Every name that the operator shares with the cluster: group, labels, annotations, conditions, reasons.

One spelling each, so that a selector, a manifest and a status can't disagree.
"""

from typing import Final

GROUP: Final = "ocr-operator.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "OcrDeployment"
PLURAL: Final = "ocrdeployments"

FIELD_MANAGER: Final = "ocr-operator"
CONTAINER: Final = "ocr-inference"

LABEL_DEPLOYMENT: Final = f"{GROUP}/deployment"
LABEL_AWAKE: Final = f"{GROUP}/awake"
LABEL_NAME: Final = "app.kubernetes.io/name"
LABEL_INSTANCE: Final = "app.kubernetes.io/instance"
LABEL_COMPONENT: Final = "app.kubernetes.io/component"
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"

GATE: Final = f"{GROUP}/placement"

ANNOTATION_LIVE_SETTINGS: Final = f"{GROUP}/live-settings"
ANNOTATION_PLACEMENT: Final = f"{GROUP}/placement"
ANNOTATION_GPU_UUIDS: Final = f"{GROUP}/gpu-uuids"
ANNOTATION_CONFIG: Final = f"{GROUP}/config"
