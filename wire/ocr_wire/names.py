"""Every name that more than one program spells: labels, annotations, files, environment variables, paths.

One spelling each, so that a selector, a manifest, a server and a command can't disagree. A name that was released once
keeps its meaning.
"""

from typing import Final

GROUP: Final = "ocr-operator.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "OcrDeployment"
PLURAL: Final = "ocrdeployments"
POLICY_KIND: Final = "OcrIdlePolicy"
POLICY_PLURAL: Final = "ocridlepolicies"
RESOURCE: Final = f"{PLURAL}.{GROUP}"

OPERATOR_MANAGER: Final = "ocr-operator"
"""The name under which the operator writes objects and Events."""
CONTAINER: Final = "ocr-inference"
PORT_NAME: Final = "http"
DEFAULT_PORT: Final = 8001

LABEL_DEPLOYMENT: Final = f"{GROUP}/deployment"
LABEL_AWAKE: Final = f"{GROUP}/awake"
AWAKE: Final = "true"
ASLEEP: Final = "false"
"""The values of that label; a pod without it gets no requests either."""
LABEL_GPU_EXPORTERS: Final = f"{GROUP}/gpu-exporters"
TRUSTED: Final = "trusted"
"""On a namespace: exporters in it are believed."""
LABEL_NAME: Final = "app.kubernetes.io/name"
LABEL_INSTANCE: Final = "app.kubernetes.io/instance"
LABEL_COMPONENT: Final = "app.kubernetes.io/component"
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
LABEL_GPU_PRODUCT: Final = "nvidia.com/gpu.product"
LABEL_GPU_MEMORY: Final = "nvidia.com/gpu.memory"
"""MiB of one GPU, by GPU feature discovery."""
RESOURCE_GPU: Final = "nvidia.com/gpu"

GATE: Final = f"{GROUP}/placement"

ANNOTATION_LIVE_SETTINGS: Final = f"{GROUP}/live-settings"
ANNOTATION_LIVE_OVERRIDE: Final = f"{GROUP}/live-override"
"""On the resource: live settings that count for a while, of which no field of the spec knows."""
ANNOTATION_PLACEMENT: Final = f"{GROUP}/placement"
ANNOTATION_ROUTING: Final = f"{GROUP}/routing"
"""On pods: why the pod is in the awake set, or isn't. For people."""
ANNOTATION_GPU_UUIDS: Final = f"{GROUP}/gpu-uuids"
ANNOTATION_MEMORY_POLICY: Final = f"{GROUP}/memory-policy"
"""In the pod template, where it isn't the default: what a pod was born with is what it was promised."""
ANNOTATION_GPU_PRODUCTS: Final = f"{GROUP}/gpu-products"
"""In the pod template, comma-separated: the products that the pod may run on, so that a change of them replaces it."""
ANNOTATION_CONFIG: Final = f"{GROUP}/config"
ANNOTATION_CLAIM: Final = f"{GROUP}/claim"
"""On pods that claim a device: what they claim, so that a change of it replaces them."""
ANNOTATION_DELETION_COST: Final = "controller.kubernetes.io/pod-deletion-cost"
"""On pods, of Kubernetes: a ReplicaSet that is to have fewer pods ends ready ones of a low cost first."""
ANNOTATION_DESIRED: Final = f"{GROUP}/desired"
"""On children, never on pods: the hash of the manifest as last applied, so that a field we stop wanting is
noticed too.
"""
ANNOTATION_TEMPLATE: Final = f"{GROUP}/template"
"""On the child Deployment: the hash of its pods' template as the operator wanted it."""
ANNOTATION_ASKED: Final = f"{GROUP}/asked"
"""On the child Deployment: the hash of what the resource says about that template. Where only the other one changes, a
new version or setting of the operator is the reason.
"""
ANNOTATION_ROLLED_BY: Final = f"{GROUP}/rolled-by"
"""On the child Deployment: why its template was written last; see `RESOURCE_CHANGED`."""
RESOURCE_CHANGED: Final = "resource"
DEFAULTS_CHANGED: Final = "operator"
DEFAULTS_CHANGED_BROKEN: Final = "operator-broken"
"""The values of that annotation: a change of the resource, or of what the operator adds to it, while the pods were all
ready or while they weren't."""

CONFIG_DIR: Final = "/etc/ocr-inference"
CONFIG_FILE: Final = "config.yaml"
LIVE_SETTINGS_FILE: Final = "live-settings"
ADMIN_DIR: Final = "/etc/ocr-inference-admin"
ADMIN_KEY: Final = "token"
API_KEYS_DIR: Final = "/etc/ocr-inference-keys"
API_KEYS_KEY: Final = "keys"
CACHE_DIR: Final = "/var/cache/ocr-inference"

ENV_PORT: Final = "PORT"
ENV_HOST: Final = "OCR_HOST"
ENV_DEVICE: Final = "OCR_DEVICE"
ENV_VISIBLE_DEVICES: Final = "NVIDIA_VISIBLE_DEVICES"
ENV_PROMISED_GPU_UUIDS: Final = "OCR_PROMISED_GPU_UUIDS"
ENV_SIMULATED_GPU_DIR: Final = "OCR_SIMULATED_GPU_DIR"
ENV_LIVE_SETTINGS_FILE: Final = "OCR_LIVE_SETTINGS_FILE"
ENV_ADMIN_TOKEN_FILE: Final = "OCR_ADMIN_TOKEN_FILE"  # noqa: S105  a variable's name
ENV_API_KEYS_FILE: Final = "OCR_API_KEYS_FILE"
ENV_CACHE_DIR: Final = "OCR_CACHE_DIR"
ENV_SHARED_WEIGHTS: Final = "OCR_SHARED_WEIGHTS"
"""Set on the server's container by the operator (and by devcluster's nodes), read by the server."""

PATH_STATE: Final = "/v1/state"
PATH_SETTINGS: Final = "/v1/settings"
PATH_LOAD: Final = "/gpu/load"
PATH_HELPERS: Final = "/v1/helpers"
PATH_PAGES: Final = "/v1/pages"
PATH_OFFLOAD: Final = "/gpu/offload"
PATH_RELEASE: Final = "/gpu/release"
PATH_TIMEOUT: Final = "/gpu/timeout"
PATH_OCR: Final = "/ocr"
PATH_JOBS: Final = "/v1/jobs"
PATH_LIVE: Final = "/livez"
PATH_READY: Final = "/readyz"


def admin_secret(deployment: str) -> str:
    """Return the name of the Secret with the token that the server's controls ask for."""
    return f"{deployment}-ocr-admin"


def is_own_label(key: str) -> bool:
    """Return whether only the operator may set this label on a pod."""
    return key.startswith(f"{GROUP}/") or key in {
        LABEL_NAME,
        LABEL_INSTANCE,
        LABEL_COMPONENT,
        LABEL_MANAGED_BY,
    }


def is_own_annotation(key: str) -> bool:
    """Return whether only the operator may set this annotation on a pod."""
    return key.startswith(f"{GROUP}/")
