"""The API server: the only package that knows the Kubernetes client.

- `api`: the protocol that the rest of the operator uses, its objects and errors.
- `client`: its implementation.
- `config`: where the API server is, and the credentials.
- `informer`: local copies, kept by list and watch.
"""

from ocr_operator.kube.client import Client, Credentials
from ocr_operator.kube.config import ConfigError, connect

__all__ = ["Client", "ConfigError", "Credentials", "connect"]
