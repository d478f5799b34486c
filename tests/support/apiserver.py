"""Raw requests to the API server that a kubeconfig names, whatever way to log in it has."""

import functools
import json
import warnings
from pathlib import Path
from typing import Any


class Refused(Exception):
    """An error that the API server answers with; `message` is its own."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status, self.message = status, message


@functools.cache
def _client(kubeconfig: Path) -> Any:
    """One for each cluster: its connection stays open, and a TLS handshake takes 20 ms of CPU time."""
    from kubernetes import config  # half a second that only cluster tests pay

    return config.new_client_from_config(config_file=str(kubeconfig))


def request(
    kubeconfig: Path, method: str, path: str, body: object = None, content_type: str = "application/json"
) -> Any:
    """Return the parsed answer; raises `Refused`.

    A kubectl takes 0.1 s of CPU time, which tests that wait would spend again and again.
    """
    known = _client(kubeconfig)
    headers = {"Accept": "application/json", "Content-Type": content_type}
    if token := known.configuration.get_api_key_with_prefix("BearerToken", alias="authorization"):
        headers["Authorization"] = token
    with warnings.catch_warnings():
        if not known.configuration.verify_ssl:  # the owner of the kubeconfig wants it so
            warnings.simplefilter("ignore")
        answer = known.rest_client.request(
            method, known.configuration.host + path, headers=headers, body=body, _request_timeout=30
        )
    text = answer.read()
    if answer.status >= 400:
        raise Refused(answer.status, _message(text))
    return json.loads(text)


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, TypeError, KeyError):
        return repr(body)[:300]
