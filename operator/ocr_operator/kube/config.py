"""The way to the API server, and the token to show there."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import yaml
from kubernetes.aio import client as kubernetes_client
from kubernetes.aio import config as kubernetes_config

from ocr_operator.kube.client import Client
from ocr_wire import tokens

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class ConfigError(Exception):
    """There is no way to the API server, and what would give one."""


@asynccontextmanager
async def connect(
    environ: Mapping[str, str], *, service_account: Path = SERVICE_ACCOUNT, request_seconds: float = 30.0
) -> AsyncIterator[Client]:
    """A client configured by `KUBECONFIG` if set, else the service account, else `~/.kube/config`."""
    try:
        client = kubernetes_client.ApiClient(await _configuration(environ, service_account))
    except (tokens.Unusable, kubernetes_config.ConfigException, KeyError, OSError) as error:
        raise ConfigError(f"no API server: {error}; set KUBECONFIG, or run in a pod") from error
    except (yaml.YAMLError, ValueError, TypeError, AttributeError) as error:
        # What is wrong isn't repeated: of a kubeconfig that can't be read, libraries quote a line or a value.
        raise ConfigError(f"no API server: {_unreadable(error)}; set KUBECONFIG, or run in a pod") from None
    try:
        yield Client(client, request_seconds=request_seconds)
    finally:
        await client.close()


def _unreadable(error: Exception) -> str:
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    return f"the kubeconfig can't be read ({type(error).__name__}{where})"


async def _configuration(environ: Mapping[str, str], account: Path) -> kubernetes_client.Configuration:
    config = kubernetes_client.Configuration()
    # Pods, and an API server that is spoken to by address, aren't behind a proxy of the environment.
    config.client_session_kwargs = {"trust_env": False}
    # Each watch holds a connection, and there are four and more in every watched namespace.
    config.connection_pool_maxsize = 0
    file = environ.get("KUBECONFIG", "")
    if not file and (account / "token").is_file():
        host, port = environ["KUBERNETES_SERVICE_HOST"], environ.get("KUBERNETES_SERVICE_PORT", "443")
        config.host = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
        config.ssl_ca_cert = str(account / "ca.crt")
        _follow_token(config, account / "token")
        return config
    file = file or os.path.join(environ.get("HOME", ""), ".kube", "config")
    if not await asyncio.to_thread(lambda: any(map(os.path.isfile, file.split(os.pathsep)))):
        raise ConfigError(f"no API server: {file} is not there; set KUBECONFIG, or run in a pod")
    loader = await kubernetes_config.load_kube_config(
        config_file=file, client_configuration=config, persist_config=False
    )
    if token := await asyncio.to_thread(_token_file, file.split(os.pathsep), loader):
        _follow_token(config, token)
    return config


def _token_file(files: Sequence[str], loader: Any) -> Path | None:
    """The `tokenFile` of the current context's user: the client reads it once, but tokens rotate."""
    wanted = loader.current_context["context"].get("user")
    for file in files:
        if not Path(file).is_file():
            continue
        document: dict[str, Any] = yaml.safe_load(Path(file).read_text(encoding="utf-8")) or {}
        for user in document.get("users") or ():
            path = (user.get("user") or {}).get("tokenFile")
            if user.get("name") == wanted and path:
                return Path(file).parent / str(path)
    return None


def _follow_token(config: kubernetes_client.Configuration, path: Path) -> None:
    """Send what `path` holds now with every request. A read of 1 KiB from memory costs microseconds."""

    def refresh(configuration: kubernetes_client.Configuration) -> None:
        try:
            token = tokens.parse(path.read_bytes())
        except tokens.Unusable as error:
            raise tokens.Unusable(f"the token in {path} {error}") from None
        configuration.api_key["BearerToken"] = f"Bearer {token}"

    refresh(config)
    config.refresh_api_key_hook = refresh
