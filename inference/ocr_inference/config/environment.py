"""Settings of the process from its environment variables and command line, parsed strictly."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast, get_args

from ocr_inference.config.settings import (
    Device,
    Forkserver,
    HuggingFace,
    InvalidSettings,
    ModelConfig,
    Settings,
    Source,
)
from ocr_inference.connections.limits import FEWEST, Times
from ocr_wire import names, numbers, quantity
from ocr_wire.settings import MAX_SECONDS
from ocr_wire.text import shown

_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[a-z0-9_.:\[\]-]+")
_REPO: Final = re.compile(r"[A-Za-z0-9_.-]{1,96}/[A-Za-z0-9_.-]{1,96}")
_HOST: Final = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")


def read(
    environ: Mapping[str, str],
    *,
    config_file: str | None = None,
    host: str | None = None,
    port: int | None = None,
) -> Settings:
    """Read the settings; the command line wins. Raises `InvalidSettings` that names the variable."""
    given = _Environment(environ)
    device = given.choice(names.ENV_DEVICE, ("auto", "cuda", "cpu", "simulated"), "auto")
    forced = given.choice("FORCE_BACKEND", ("cuda", "cpu"), "auto", any_case=True)
    return Settings(
        host=host or environ.get(names.ENV_HOST) or "",
        port=port
        if port is not None
        else given.whole(names.ENV_PORT, names.DEFAULT_PORT, low=0, high=65_535),
        device=cast("Device", device if device != "auto" else forced),
        visible_devices=environ.get(names.ENV_VISIBLE_DEVICES) or None,
        cuda_visible_devices=environ.get("CUDA_VISIBLE_DEVICES"),
        cuda_device_order=environ.get("CUDA_DEVICE_ORDER"),
        promised_gpu_uuids=given.listed(names.ENV_PROMISED_GPU_UUIDS, most=16, longest=128),
        simulated_gpu_dir=given.path(names.ENV_SIMULATED_GPU_DIR),
        gpu_idle_timeout=given.timeout("GPU_IDLE_TIMEOUT"),
        config_file=Path(config_file) if config_file else None,
        named_model=given.model(),
        live_settings_file=given.path(names.ENV_LIVE_SETTINGS_FILE),
        admin_token_file=given.path(names.ENV_ADMIN_TOKEN_FILE),
        api_keys_file=given.path(names.ENV_API_KEYS_FILE),
        cors_origins=given.origins("OCR_CORS_ORIGINS"),
        allowed_hosts=given.hosts("OCR_ALLOWED_HOSTS"),
        max_connections=None
        if not environ.get("OCR_MAX_CONNECTIONS")
        else given.whole("OCR_MAX_CONNECTIONS", 0, low=FEWEST, high=30_000),
        connection_times=Times(idle=given.number("OCR_KEEPALIVE_SECONDS", Times().idle, low=1, high=3600)),
        cache_dir=given.path(names.ENV_CACHE_DIR) or _cache_home(environ) / "ocr-inference",
        shared_weights=given.choice(names.ENV_SHARED_WEIGHTS, ("on", "off"), "off") == "on",
        pod_name=environ.get("POD_NAME", ""),
        pod_uid=environ.get("POD_UID", ""),
        upload_memory_bytes=given.size("OCR_UPLOAD_MEMORY", Settings.upload_memory_bytes),
        job_memory_bytes=given.size("OCR_JOB_MEMORY", Settings.job_memory_bytes),
        file_memory_bytes=given.size("OCR_FILE_MEMORY", Settings.file_memory_bytes),
        keep_seconds=given.number("OCR_KEEP_SECONDS", Settings.keep_seconds, low=1, high=MAX_SECONDS),
        drain_seconds=given.number("OCR_DRAIN_SECONDS", 20.0, low=0, high=3600),
        forkserver=cast("Forkserver", given.choice("OCR_FORKSERVER", get_args(Forkserver), "on")),
    )


def model_of(named: str, param: str, *, is_folder: bool = False, engine: str = "transformers") -> ModelConfig:
    """Return the model that a repository or a folder has, called by the last part of its name. Raises
    `InvalidSettings` that names `param`."""
    if is_folder or named.startswith(("/", "./", "../")):
        source = Source(path=named)
    elif _REPO.fullmatch(named):
        source = Source(hugging_face=HuggingFace(repo=named))
    else:
        message = f"expected a repository such as deepseek-ai/DeepSeek-OCR, or a folder; got {shown(named)!r}"
        raise InvalidSettings(message, param)
    last = named.rstrip("/").rpartition("/")[2].lower()
    name = re.sub("[^-._a-z0-9]+", "-", last)[:63].strip("-._")
    return ModelConfig(name=name or "model", engine=engine, source=source)


def _cache_home(environ: Mapping[str, str]) -> Path:
    if home := environ.get("XDG_CACHE_HOME"):
        return Path(home)
    return Path(environ.get("HOME") or "/tmp") / ".cache"  # noqa: S108


@dataclass(frozen=True)
class _Environment:
    """Reader of typed variables; an empty one counts as unset, as compose files and charts leave them."""

    environ: Mapping[str, str]

    def choice(self, name: str, known: tuple[str, ...], default: str, *, any_case: bool = False) -> str:
        value = self.environ.get(name) or default
        if any_case:
            value = value.lower()
        if value not in {*known, default}:
            raise InvalidSettings(f"expected {' | '.join(known)}; got {shown(value)!r}", name)
        return value

    def whole(self, name: str, default: int, *, low: int, high: int) -> int:
        text = self.environ.get(name) or str(default)
        value = numbers.whole(text, low, high)
        if value is None:
            raise InvalidSettings(f"expected a whole number from {low} to {high}; got {shown(text)!r}", name)
        return value

    def number(self, name: str, default: float, *, low: float, high: float) -> float:
        text = self.environ.get(name) or str(default)
        value = numbers.decimal(text, low, high)
        if value is None:
            raise InvalidSettings(f"expected a number from {low:g} to {high:g}; got {shown(text)!r}", name)
        return value

    def size(self, name: str, default: int) -> int:
        """Read bytes, as Kubernetes writes them."""
        text = self.environ.get(name)
        if not text:
            return default
        if (size := quantity.size(text)) is None:
            raise InvalidSettings(quantity.fault(text), name)
        return size

    def timeout(self, name: str) -> float | None:
        if not self.environ.get(name):
            return None
        value = self.number(name, 0.0, low=-1, high=MAX_SECONDS)
        if -1 < value < 0:
            raise InvalidSettings("expected seconds >= 0, or -1 for never", name)
        return value

    def model(self) -> ModelConfig | None:
        """Return the model that the variables of DeepSeek-OCR-WebUI name, a folder before a repository."""
        if folder := self.environ.get("LOCAL_MODEL_PATH"):
            return model_of(folder, "LOCAL_MODEL_PATH", is_folder=True)
        if name := self.environ.get("MODEL_NAME"):
            return model_of(name, "MODEL_NAME")
        return None

    def path(self, name: str) -> Path | None:
        value = self.environ.get(name)
        return Path(value) if value else None

    def listed(self, name: str, *, most: int, longest: int) -> tuple[str, ...]:
        parts = tuple(part.strip() for part in self.environ.get(name, "").split(",") if part.strip())
        if len(parts) > most or any(len(part) > longest for part in parts):
            raise InvalidSettings(
                f"expected at most {most} comma-separated names of {longest} characters", name
            )
        return parts

    def origins(self, name: str) -> tuple[str, ...]:
        """Read origins, and write them as browsers do: in small letters, without a default port."""
        found = []
        for part in self.listed(name, most=64, longest=300):
            origin = part.lower().removesuffix("/")
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise InvalidSettings(
                    f"expected * or origins such as https://app.example.com; got {shown(part)!r}", name
                )
            port = {"http": ":80", "https": ":443"}.get(origin.partition(":")[0], "")
            found.append(origin.removesuffix(port))
        return tuple(found)

    def hosts(self, name: str) -> tuple[str, ...]:
        """Read names of hosts, without ports."""
        found = tuple(part.lower() for part in self.listed(name, most=64, longest=255))
        for host in found:
            if host != "*" and not _HOST.fullmatch(host):
                raise InvalidSettings(
                    f"expected *, or names without port such as ocr.example.com or *.ocr; got {shown(host)!r}",
                    name,
                )
        return found
