"""The annotations of a placed pod: what was decided and why, and the GPUs that it is pinned to.

The operator writes them, with the patch that takes the gate away, and rebuilds its accounts from them; the plugin
explains them; the server gets the GPUs as an environment variable. Every user with write access to pods can edit them.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec

from ocr_wire import checked, text
from ocr_wire.checked import Invalid

MAX_BYTES: Final = 256 * 1024
"""What the API server allows all annotations of an object together."""
MAX_UUIDS: Final = 16
"""GPUs of one pod."""

UUID: Final = re.compile(r"(GPU|MIG)-[A-Za-z0-9][-A-Za-z0-9/]{0,120}")
"""A UUID ends up in `NVIDIA_VISIBLE_DEVICES`, where `all` or a comma would give a pod GPUs of others."""

Score = Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)]
Object = Annotated[str, msgspec.Meta(max_length=253)]


class _Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Part of a record; unknown fields are ignored, and each is optional."""


class Gpu(_Part, frozen=True, kw_only=True):
    uuid: Annotated[str, msgspec.Meta(max_length=128)] = ""
    product: Object = ""


class RunnerUp(_Part, frozen=True, kw_only=True):
    node: Object = ""
    uuid: Annotated[str, msgspec.Meta(max_length=128)] = ""
    """Empty where the device plugin picks."""
    score: Score = 0.0


class Record(_Part, frozen=True, kw_only=True):
    """The annotation `ocr-operator.io/placement`."""

    node: Object = ""
    """Empty where the scheduler is free."""
    gpus: Annotated[tuple[Gpu, ...], msgspec.Meta(max_length=MAX_UUIDS)] = ()
    """Those that the pod is pinned to; none where the device plugin picks one on the node."""
    sharing: Object = ""
    memory_bytes: text.Count | None = None
    """None where it is missing: after a manual edit, or from an older operator."""
    placed_at: Object = ""
    """RFC 3339; see `time`."""
    basis: Object = ""
    """Data that the choice rests on, such as `metrics`."""
    score: Score | None = None
    """The share of the GPU that stays free once the pod is there: 1 is best, 0 full."""
    data_age_seconds: Annotated[float, msgspec.Meta(ge=-1, le=1e9)] | None = None
    data_source: Object = ""
    """The source that measured the load; empty: none did."""
    runners_up: Annotated[tuple[RunnerUp, ...], msgspec.Meta(max_length=64)] = ()
    why: text.Text = ""
    excluded: text.Count | msgspec.UnsetType = msgspec.UNSET
    """Nodes that the pod is kept from, with `node` the preferred one, and any other for the scheduler to pick; absent:
    the pod goes to `node`, or where `alternatives` are, and nowhere else."""
    alternatives: Annotated[tuple[RunnerUp, ...], msgspec.Meta(max_length=64)] | msgspec.UnsetType = (
        msgspec.UNSET
    )
    """Other nodes that the scheduler may pick, each with the GPU that the pod gets there if it is a claimed one."""

    @property
    def free(self) -> bool:
        """Whether the scheduler may pick any node that isn't excluded."""
        return isinstance(self.excluded, int)

    @property
    def elsewhere(self) -> tuple[RunnerUp, ...]:
        """Places other than `node` where the pod may be."""
        return () if self.alternatives is msgspec.UNSET else self.alternatives

    @property
    def time(self) -> datetime | None:
        """Time at which the pod was placed; None where a manual edit broke it."""
        found = checked.convert(self.placed_at, text.Time)
        return None if isinstance(found, Invalid) else found

    def to_json(self) -> str:
        """Return the annotation's text. Equal records give equal text."""
        return msgspec.json.encode(self).decode()


_JSON: Final = msgspec.json.Decoder(Record)


def read(body: str) -> Record | Invalid:
    """Read the annotation `ocr-operator.io/placement`. Never raises."""
    return checked.read(body, _JSON, MAX_BYTES)


def at(now: datetime) -> str:
    """Return a time as records have it: UTC, to the second."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def uuids(listed: str) -> tuple[str, ...]:
    """Read the annotation `ocr-operator.io/gpu-uuids`: sorted, each once; what is no UUID is left out."""
    parts = listed[: MAX_UUIDS * 128].split(",")
    return tuple(sorted({uuid for each in parts if UUID.fullmatch(uuid := each.strip())}))[:MAX_UUIDS]


def listed(gpus: Iterable[Gpu]) -> str:
    """Return the annotation `ocr-operator.io/gpu-uuids`."""
    return ",".join(gpu.uuid for gpu in gpus)
