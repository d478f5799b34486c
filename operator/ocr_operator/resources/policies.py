"""`OcrIdlePolicy` as frozen data, and which resources one selects: what `crds/ocridlepolicies.yaml` says, in types.

A policy that can't be meant (an unknown time zone, a body that slipped past the definition) is not accepted: it
selects nothing, and its status says why. Field names, bounds and defaults are those of the definition; a contract test
compares the two.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

import msgspec

from ocr_operator.resources import observed, spec, windows
from ocr_operator.resources.selectors import Selector
from ocr_operator.resources.windows import Window
from ocr_wire import names
from ocr_wire.settings import LogLevel, admitted
from ocr_wire.text import whole

POLICY_NAME_PATTERN: Final = whole(r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$")
MAX_POLICY_NAME: Final = 63
"""`status.liveSettings.sources` repeats it for every field that the policy sets."""

Mode = Literal["default", "override"]
_LATE: Final = datetime.max.replace(tzinfo=UTC)


class _Part(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """camelCase outside; unknown fields are ignored, as in `spec`."""


class ModelSettings(_Part, frozen=True):
    """Live settings for the models of that name, in whichever resource they are."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=63, pattern=spec.MODEL_PATTERN)]
    idle: spec.IdleOverride = spec.IdleOverride()
    priority: Annotated[int, admitted("priority")] | None = None
    preload: bool | None = None


class PolicySpec(_Part, frozen=True):
    """The live parts carry their defaults only to be checked as a whole; what the policy sets is `Policy.written`."""

    selector: Selector = Selector()
    namespace_selector: Selector = Selector()
    priority: Annotated[int, msgspec.Meta(ge=-1000, le=1000)] = 0
    mode: Mode = "default"
    windows: Annotated[tuple[Window, ...], msgspec.Meta(max_length=8)] = ()
    models: Annotated[tuple[ModelSettings, ...], msgspec.Meta(max_length=16)] = ()
    idle: spec.Idle = spec.Idle()
    batching: spec.Batching = spec.Batching()
    queue: spec.Queue = spec.Queue()
    log_level: LogLevel = "info"
    routing: spec.Routing = spec.Routing()


class Rejection(msgspec.Struct, frozen=True):
    """Why a policy isn't accepted; `reason` is CamelCase."""

    reason: str
    message: str


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """A policy as last seen. `written` is its spec as stored: which fields it sets at all."""

    name: str
    uid: str = ""
    version: str = ""
    generation: int = 0
    created: datetime | None = None
    spec: PolicySpec = PolicySpec()
    written: Mapping[str, Any] = {}
    rejection: Rejection | None = None
    status: Mapping[str, Any] = {}

    @property
    def origin(self) -> str:
        """The name as a status has it."""
        return f"{names.POLICY_KIND}/{self.name}"

    @property
    def rank(self) -> tuple[int, datetime, str]:
        """Strongest first: the higher priority, then the older one, then the first by name."""
        return (-self.spec.priority, self.created or _LATE, self.name)

    def selects(self, labels: Mapping[str, str], namespace_labels: Mapping[str, str]) -> bool:
        return (
            self.rejection is None
            and self.spec.selector.selects(labels)
            and self.spec.namespace_selector.selects(namespace_labels)
        )

    def active(self, now: datetime) -> bool:
        """Return whether its values count now: it has no windows, or one of them is open."""
        return self.rejection is None and (not self.spec.windows or windows.is_open(self.spec.windows, now))

    def says_the_same(self, other: "Policy") -> bool:
        """Return whether nothing changed but the status."""
        return (self.uid, self.generation, self.rejection) == (other.uid, other.generation, other.rejection)


class _Body(msgspec.Struct, frozen=True):
    spec: PolicySpec = PolicySpec()


def parse(raw: Mapping[str, Any]) -> Policy:
    """Read a policy as the API server returns it. Never raises: one that makes no sense has a `rejection`."""
    meta, written = _map(raw, "metadata"), _map(raw, "spec")
    generation = meta.get("generation")
    policy = Policy(
        name=str(meta.get("name", "")),
        uid=str(meta.get("uid", "")),
        version=str(meta.get("resourceVersion", "")),
        generation=generation if isinstance(generation, int) and generation >= 0 else 0,
        created=observed.time(meta.get("creationTimestamp")),
        status=_map(raw, "status"),
    )
    try:
        parsed = msgspec.convert({"spec": raw.get("spec", {})}, _Body).spec
    except msgspec.ValidationError as error:
        problem = spec.invalid(str(error))
        return _rejected(policy, "InvalidPolicy", f"{problem.field}: {problem.message}")
    except RecursionError:
        return _rejected(policy, "InvalidPolicy", "spec: is nested too deeply")
    if len(policy.name) > MAX_POLICY_NAME or not re.fullmatch(POLICY_NAME_PATTERN, policy.name):
        return _rejected(policy, "InvalidPolicy", f"metadata.name: {NAME_RULE}")
    for field, message in _broken_rules(parsed):
        return _rejected(policy, "InvalidPolicy", f"{field}: {message}")
    for index, window in enumerate(parsed.windows):
        if windows.zone(window.time_zone) is None:
            return _rejected(
                policy,
                "UnknownTimeZone",
                f"spec.windows[{index}].timeZone: {window.time_zone!r} is no time zone that the operator knows; "
                "it takes IANA names such as Europe/Berlin or UTC",
            )
    return msgspec.structs.replace(policy, spec=parsed, written=written)


NAME_RULE: Final = "metadata.name must be at most 63 characters: the status of each resource repeats it"
WINDOW_RULE: Final = "start and end must differ; 00:00 to 24:00 is the whole day"
VALUES_RULE: Final = "operators In and NotIn need values, Exists and DoesNotExist take none"


def _broken_rules(parsed: PolicySpec) -> list[tuple[str, str]]:
    """Field and message of each rule that the definition has in CEL, in the same words."""
    found = [
        (f"spec.windows[{index}]", WINDOW_RULE)
        for index, each in enumerate(parsed.windows)
        if each.start == each.end
    ]
    known = [each.name for each in parsed.models]
    found += [
        (f"spec.models[{index}]", f"Duplicate value: {name!r}")
        for index, name in enumerate(known)
        if name in known[:index]
    ]
    selectors = {"selector": parsed.selector, "namespaceSelector": parsed.namespace_selector}
    for name, selector in selectors.items():
        for index, each in enumerate(selector.match_expressions):
            if bool(each.values) != (each.operator in {"In", "NotIn"}):
                found.append((f"spec.{name}.matchExpressions[{index}]", VALUES_RULE))
    return found


def _rejected(policy: Policy, reason: str, message: str) -> Policy:
    return msgspec.structs.replace(policy, rejection=Rejection(reason, message))


def _map(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = raw.get(key)
    return value if isinstance(value, Mapping) else {}
