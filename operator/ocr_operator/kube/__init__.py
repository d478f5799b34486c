"""The API server: the only package that knows the Kubernetes client.

- `api`: the protocol that the rest of the operator uses, its objects and errors.
- `client`: its implementation.
- `config`: where the API server is, and the credentials.
- `shapes`: the few fields that are kept of objects of which there are many.
- `certificates`: the authority that connections trust, and the certificate that they show.
- `transport`: one request and its answer.
- `watch`: lists, and what happens after them.
- `decoding`: lines and objects out of its bytes, bounded.
- `informer`: local copies, kept by list and watch.
"""

from ocr_operator.kube.client import Client, Credentials
from ocr_operator.kube.config import ConfigError, connect

__all__ = ["Client", "ConfigError", "Credentials", "connect"]
