"""Names on the wire that the plugin relies on. The operator has its own list: the two are of different versions."""

from typing import Final

GROUP: Final = "ocr-operator.io"
RESOURCE: Final = f"ocrdeployments.{GROUP}"
CONTAINER: Final = "ocr-inference"
PORT_NAME: Final = "http"
LABEL_DEPLOYMENT: Final = f"{GROUP}/deployment"
LABEL_AWAKE: Final = f"{GROUP}/awake"
GATE: Final = f"{GROUP}/placement"
ANNOTATION_LIVE_SETTINGS: Final = f"{GROUP}/live-settings"
ANNOTATION_PLACEMENT: Final = f"{GROUP}/placement"
ADMIN_KEY: Final = "token"
API_KEYS_KEY: Final = "keys"
LABEL_GPU_PRODUCT: Final = "nvidia.com/gpu.product"
LABEL_GPU_MEMORY: Final = "nvidia.com/gpu.memory"
"""MiB of one GPU, by GPU feature discovery."""


def admin_secret(deployment: str) -> str:
    """The Secret with the token that `/gpu/*` asks for."""
    return f"{deployment}-ocr-admin"
