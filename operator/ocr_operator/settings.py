"""The settings of the operator's own process: environment in, frozen values out.

Settings of resources live in the resources. docs/operator-settings.md lists every variable; a test fails when
one is missing there.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.metadata import version
from typing import Any, Final
from urllib.parse import urlsplit

from ocr_wire import names, numbers

VERSION: Final = version("ocr-operator")
FIELD_MANAGER: Final = names.OPERATOR_MANAGER
"""The name under which the operator writes objects and Events."""
PREFIX: Final = "OCR_OPERATOR_"
MAX_TEXT: Final = 1024
_MATCHER: Final = r'[a-zA-Z_][a-zA-Z0-9_]*(?:=|!=|=~|!~)"[^"\\\n]*"'
_MATCHERS: Final = re.compile(f"{_MATCHER}(?:,{_MATCHER})*")
"""Label matchers of PromQL. No escapes: nothing but these may get into a query."""
_IDENTITY: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}/[a-z0-9][a-z0-9.-]{0,180}")


class InvalidSetting(ValueError):
    """An environment variable that can't be meant: which one, and what it takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Each field is read from `OCR_OPERATOR_<FIELD>`; lists are separated by the character named below."""

    inference_image: str = f"ghcr.io/ocr-operator/ocr-inference:{VERSION}"
    """The image of pods whose resource names none."""
    inference_image_cuda: str = f"ghcr.io/ocr-operator/ocr-inference:{VERSION}-cuda"
    """The image of such pods whose models need PyTorch, as those of engine transformers do."""
    inference_image_vllm: str = f"ghcr.io/ocr-operator/ocr-inference:{VERSION}-vllm"
    """The image of those whose models need vLLM."""
    image_pull_policy: str = field(default="", metadata={"one_of": ("", "Always", "IfNotPresent", "Never")})
    """Of inference pods; empty leaves it to Kubernetes."""
    image_pull_secrets: tuple[str, ...] = field(default=(), metadata={"separator": ","})
    """Comma-separated names of pull secrets that inference pods have beside those of their template."""
    pod_user: str = field(default="fixed", metadata={"one_of": ("fixed", "assigned")})
    """Whose user inference pods have: that of the image, or whatever the cluster assigns, as OpenShift does."""
    watch_namespaces: tuple[str, ...] = field(default=(), metadata={"separator": ","})
    """Comma-separated; empty is all of them."""
    counted_pods: str = field(default="all", metadata={"one_of": ("all", "watched")})
    """Whose pods count when one is placed: those of all namespaces, which the operator must be allowed to
    list and watch then, or of the watched ones."""
    cluster_access: str = field(default="read", metadata={"one_of": ("read", "none")})
    """Whether it reads what has no namespace: nodes, volumes, policies, labels of namespaces. `none` is for Roles
    alone, and needs watched namespaces."""
    identity: str = field(default="", metadata={"form": _IDENTITY, "example": "ocr-system/ocr-operator"})
    """Namespace and name of the operator's Deployment: by that its Leases name it. Empty takes none."""
    lease: str = field(default="", metadata={"form": _IDENTITY, "example": "ocr-system/ocr-operator-leader"})
    """Namespace and name of the Lease by which one of several replicas is the one that works; empty: there is one."""
    exporter_namespace: tuple[str, ...] = field(default=(), metadata={"separator": ","})
    """Comma-separated namespaces in which exporter pods are believed; `*` is everywhere, and empty the operator's own,
    well-known ones and those with the label `ocr-operator.io/gpu-exporters: trusted`."""
    exporter_owners: tuple[str, ...] = field(default=("DaemonSet",), metadata={"separator": ","})
    """Comma-separated owners of exporter pods that are believed: a kind, or `Kind/name`; `*` is any and none."""
    exporter_selectors: tuple[str, ...] = field(
        default=(
            "app=nvidia-dcgm-exporter",
            "app.kubernetes.io/name=dcgm-exporter",
            "app.kubernetes.io/name=ocr-gpu-exporter",
        ),
        metadata={"separator": ";"},
    )
    """Semicolon-separated label selectors; a pod that matches one is scraped."""
    exporter_port: int = field(default=9400, metadata={"least": 1, "most": 65_535})
    scrape_seconds: float = field(default=5.0, metadata={"least": 0.05, "most": 300})
    """Between two scrapes of the same exporter."""
    prometheus_url: str = field(default="", metadata={"url": True}, repr=False)
    """A Prometheus server that has the exporters' metrics; empty asks none. It may carry a password."""
    prometheus_token_file: str = ""
    """A file with its bearer token; read anew for each question."""
    prometheus_matchers: str = field(default="", metadata={"form": _MATCHERS, "example": 'cluster="eu"'})
    """Label matchers that every series must have, such as `cluster="eu"`; for one that has several clusters."""
    resync_seconds: float = field(default=300.0, metadata={"least": 1, "most": 86_400})
    """Every resource is looked at again after so long, whatever the watches say."""
    concurrency: int = field(default=16, metadata={"least": 1, "most": 256})
    """Resources that are reconciled at the same time."""
    placement_policy: str = field(default="leastLoaded", metadata={"one_of": ("leastLoaded", "binPack")})
    """Which of the GPUs that fit a pod gets: the least loaded one, or the most loaded one."""
    upgrades_at_once: int = field(default=2, metadata={"least": 0, "most": 10_000})
    """Resources whose pods are replaced at the same time because the operator's version or settings changed; 0 is
    all."""
    leave_to_scheduler_seconds: int = field(default=120, metadata={"least": -1, "most": 86_400})
    """A pod that takes whole devices and finds none is left to the scheduler after so long, since a cluster autoscaler
    sees no gated pod; 0 at once, -1 never."""
    arbitration_resident_seconds: float = field(default=5.0, metadata={"least": 0, "most": 3600})
    """A model that is ready for a shorter time isn't asked to make way for another resource's."""
    arbitration_asks_per_minute: int = field(default=20, metadata={"least": 0, "most": 10_000})
    """Models that are asked to make way on one GPU; 0 asks none."""
    resource_series: int = field(default=500, metadata={"least": 0, "most": 10_000})
    """Resources that have metrics with their names, the first ones by namespace and name; 0 is none."""
    host: str = ""
    """Address to listen at; empty is all of the machine, of IPv6 and IPv4."""
    port: int = field(default=8080, metadata={"least": 0, "most": 65_535})
    """Of `/metrics`, `/livez` and `/readyz`; 0 takes any free one."""
    metrics_token_file: str = ""
    """A file with the bearer token that `/metrics` asks for; read anew for each request."""
    log_level: str = field(default="info", metadata={"one_of": ("debug", "info", "warning", "error")})
    log_format: str = field(default="text", metadata={"one_of": ("text", "json")})

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "Settings":
        """Unset and empty variables keep the default. `OCR_HOST` narrows the address, as for the server."""
        known = {f"{PREFIX}{each.name.upper()}": each for each in fields(cls)}
        unknown = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
        if unknown:
            raise InvalidSetting(f"{unknown[0]} is no setting; there are {', '.join(sorted(known))}")
        found = {
            each.name: _read(name, environ[name], each.default, each.metadata)
            for name, each in known.items()
            if environ.get(name)
        }
        if environ.get("OCR_HOST"):
            found.setdefault("host", environ["OCR_HOST"])
        settings = cls(**found)
        if settings.cluster_access == "none" and not settings.watch_namespaces:
            raise InvalidSetting(f"{PREFIX}CLUSTER_ACCESS=none needs {PREFIX}WATCH_NAMESPACES")
        return settings

    @property
    def counts_all_pods(self) -> bool:
        """Whether pods of all namespaces are read; without access to the cluster only the watched ones can be."""
        return self.counted_pods == "all" and self.cluster_access == "read"


def _read(name: str, text: str, default: Any, rules: Mapping[str, Any]) -> Any:
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(rules["separator"]) if part.strip())
    if "one_of" in rules:
        if text not in rules["one_of"]:
            choices = ", ".join(each for each in rules["one_of"] if each)
            raise InvalidSetting(f"{name}={text[:64]!r} is not one of {choices}")
        return text
    if "url" in rules and not _is_url(text):
        # Not repeated: it may carry a password, and one that can't be read doesn't show where.
        raise InvalidSetting(f"{name} is no URL such as http://prometheus.monitoring:9090")
    if "form" in rules and (len(text) > MAX_TEXT or not rules["form"].fullmatch(text)):
        raise InvalidSetting(f"{name}={text[:64]!r} is nothing like {rules['example']}")
    if isinstance(default, str):
        return text
    is_whole = isinstance(default, int)
    number = (numbers.whole if is_whole else numbers.decimal)(text, rules["least"], rules["most"])
    if number is None:
        kind = "a whole number" if is_whole else "a number"
        raise InvalidSetting(f"{name}={text[:64]!r} is not {kind} from {rules['least']} to {rules['most']}")
    return number


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and (parts.port is None or parts.port > 0)
        )
    except ValueError:
        return False
