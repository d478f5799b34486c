"""The API server, spoken to: the only package that knows the Kubernetes client."""

from ocr_operator.kube.client import Client, Credentials
from ocr_operator.kube.config import ConfigError, connect

__all__ = ["Client", "ConfigError", "Credentials", "connect"]
