"""Every name that the operator shares with the cluster: group, labels, annotations, conditions, reasons.

One spelling each, so that a selector, a manifest and a status can't disagree.
"""

from typing import Final

GROUP: Final = "ocr-operator.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "OcrDeployment"
PLURAL: Final = "ocrdeployments"
POLICY_KIND: Final = "OcrIdlePolicy"
POLICY_PLURAL: Final = "ocridlepolicies"

FIELD_MANAGER: Final = "ocr-operator"
CONTAINER: Final = "ocr-inference"

LABEL_DEPLOYMENT: Final = f"{GROUP}/deployment"
LABEL_AWAKE: Final = f"{GROUP}/awake"
AWAKE: Final = "true"
ASLEEP: Final = "false"
"""The values of that label; a pod without it gets no requests either."""
LABEL_NAME: Final = "app.kubernetes.io/name"
LABEL_INSTANCE: Final = "app.kubernetes.io/instance"
LABEL_COMPONENT: Final = "app.kubernetes.io/component"
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"

GATE: Final = f"{GROUP}/placement"

ANNOTATION_LIVE_SETTINGS: Final = f"{GROUP}/live-settings"
ANNOTATION_PLACEMENT: Final = f"{GROUP}/placement"
ANNOTATION_GPU_UUIDS: Final = f"{GROUP}/gpu-uuids"
ANNOTATION_MEMORY_POLICY: Final = f"{GROUP}/memory-policy"
"""In the pod template, where it isn't the default: what a pod was born with is what it was promised."""
ANNOTATION_CONFIG: Final = f"{GROUP}/config"
ANNOTATION_CLAIM: Final = f"{GROUP}/claim"
"""On pods that claim a device: what they claim, so that a change of it replaces them."""
ANNOTATION_DESIRED: Final = f"{GROUP}/desired"
"""On children, never on pods: the hash of the manifest as last applied, so that a field we stop wanting is
noticed too.
"""

CONFIG_DIR: Final = "/etc/ocr-inference"
CONFIG_FILE: Final = "config.yaml"
LIVE_SETTINGS_FILE: Final = "live-settings"
ADMIN_DIR: Final = "/etc/ocr-inference-admin"
ADMIN_KEY: Final = "token"
API_KEYS_DIR: Final = "/etc/ocr-inference-keys"
API_KEYS_KEY: Final = "keys"
CACHE_DIR: Final = "/var/cache/ocr-inference"
PORT_NAME: Final = "http"
LABEL_GPU_PRODUCT: Final = "nvidia.com/gpu.product"


def is_own_label(key: str) -> bool:
    """Whether only the operator may set this label on a pod."""
    return key.startswith(f"{GROUP}/") or key in {
        LABEL_NAME,
        LABEL_INSTANCE,
        LABEL_COMPONENT,
        LABEL_MANAGED_BY,
    }


def is_own_annotation(key: str) -> bool:
    """Whether only the operator may set this annotation on a pod."""
    return key.startswith(f"{GROUP}/")
