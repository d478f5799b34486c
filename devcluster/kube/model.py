"""The parts of a Pod that a process node reads. The API server has validated them; unknown fields are ignored."""

from typing import Literal

import msgspec


class Part(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Part of a resource as JSON spells it."""


class Metadata(Part, frozen=True):
    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None


class KeyRef(Part, frozen=True):
    key: str
    name: str = ""
    optional: bool = False


class FieldRef(Part, frozen=True):
    field_path: str


class ValueFrom(Part, frozen=True):
    field_ref: FieldRef | None = None
    secret_key_ref: KeyRef | None = None
    config_map_key_ref: KeyRef | None = None


class EnvVar(Part, frozen=True):
    name: str
    value: str = ""
    value_from: ValueFrom | None = None


class ObjectRef(Part, frozen=True):
    name: str = ""
    optional: bool = False


class EnvFrom(Part, frozen=True):
    prefix: str = ""
    secret_ref: ObjectRef | None = None
    config_map_ref: ObjectRef | None = None


class Port(Part, frozen=True):
    container_port: int
    name: str = ""


class Mount(Part, frozen=True):
    name: str
    mount_path: str
    sub_path: str = ""
    sub_path_expr: str = ""


class HttpHeader(Part, frozen=True):
    name: str
    value: str = ""


class HttpGet(Part, frozen=True):
    port: int | str
    path: str = "/"
    host: str = ""
    scheme: str = "HTTP"
    http_headers: list[HttpHeader] = []


class TcpSocket(Part, frozen=True):
    port: int | str
    host: str = ""


class Exec(Part, frozen=True):
    command: list[str] = []


class Sleep(Part, frozen=True):
    seconds: int = 0


class Action(Part, frozen=True):
    """Action of a probe or a preStop hook: exactly one of the fields is set."""

    http_get: HttpGet | None = None
    tcp_socket: TcpSocket | None = None
    exec: Exec | None = None
    sleep: Sleep | None = None


class Probe(Action, frozen=True):
    initial_delay_seconds: int = 0
    period_seconds: int = 10
    timeout_seconds: int = 1
    success_threshold: int = 1
    failure_threshold: int = 3
    termination_grace_period_seconds: int | None = None


class Lifecycle(Part, frozen=True):
    pre_stop: Action | None = None


class Resources(Part, frozen=True):
    limits: dict[str, str | int] = {}
    requests: dict[str, str | int] = {}


class Container(Part, frozen=True):
    name: str
    image: str = ""
    command: list[str] = []
    args: list[str] = []
    working_dir: str = ""
    env: list[EnvVar] = []
    env_from: list[EnvFrom] = []
    ports: list[Port] = []
    volume_mounts: list[Mount] = []
    resources: Resources = Resources()
    startup_probe: Probe | None = None
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    lifecycle: Lifecycle | None = None
    restart_policy: Literal["Always", "OnFailure", "Never"] | None = None
    """Of an init container only: `Always` makes it a sidecar."""
    termination_message_policy: str = "File"


class KeyToPath(Part, frozen=True):
    key: str
    path: str
    mode: int | None = None


class KeyedSource(Part, frozen=True):
    """Secret or ConfigMap as a volume (`secretName` there, `name` everywhere else)."""

    name: str = ""
    secret_name: str = ""
    items: list[KeyToPath] = []
    default_mode: int | None = None
    optional: bool = False


class DownwardItem(Part, frozen=True):
    path: str
    field_ref: FieldRef | None = None
    mode: int | None = None


class DownwardSource(Part, frozen=True):
    items: list[DownwardItem] = []
    default_mode: int | None = None


class TokenSource(Part, frozen=True):
    path: str
    audience: str = ""
    expiration_seconds: int = 3600


class Projection(Part, frozen=True):
    secret: KeyedSource | None = None
    config_map: KeyedSource | None = None
    downward_api: DownwardSource | None = msgspec.field(default=None, name="downwardAPI")
    service_account_token: TokenSource | None = None


class ProjectedSource(Part, frozen=True):
    sources: list[Projection] = []
    default_mode: int | None = None


class HostPath(Part, frozen=True):
    path: str
    type: str = ""


class Empty(Part, frozen=True):
    """Source of which only the presence matters."""


class Volume(Part, frozen=True):
    name: str
    empty_dir: Empty | None = None
    secret: KeyedSource | None = None
    config_map: KeyedSource | None = None
    downward_api: DownwardSource | None = msgspec.field(default=None, name="downwardAPI")
    projected: ProjectedSource | None = None
    host_path: HostPath | None = None
    persistent_volume_claim: Empty | None = None


class Gate(Part, frozen=True):
    condition_type: str


class Spec(Part, frozen=True):
    containers: list[Container]
    init_containers: list[Container] = []
    volumes: list[Volume] = []
    node_name: str = ""
    service_account_name: str = "default"
    restart_policy: Literal["Always", "OnFailure", "Never"] = "Always"
    termination_grace_period_seconds: int = 30
    host_network: bool = False
    hostname: str = ""
    readiness_gates: list[Gate] = []


class Terminated(Part, frozen=True):
    exit_code: int
    signal: int = 0
    reason: str = ""
    message: str = ""
    started_at: str | None = None
    finished_at: str | None = None
    container_id: str = msgspec.field(default="", name="containerID")


class Running(Part, frozen=True):
    started_at: str | None = None


class Waiting(Part, frozen=True):
    reason: str = ""
    message: str = ""


class ContainerState(Part, frozen=True):
    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


class ContainerStatus(Part, frozen=True):
    name: str
    restart_count: int = 0
    state: ContainerState = ContainerState()


class Condition(Part, frozen=True):
    type: str
    status: str
    reason: str | None = None
    message: str | None = None
    last_transition_time: str | None = None


class Status(Part, frozen=True):
    phase: str = "Pending"
    pod_ip: str = msgspec.field(default="", name="podIP")
    start_time: str | None = None
    conditions: list[Condition] = []
    container_statuses: list[ContainerStatus] = []
    init_container_statuses: list[ContainerStatus] = []


class Pod(Part, frozen=True):
    metadata: Metadata
    spec: Spec
    status: Status = Status()

    @property
    def key(self) -> str:
        """The `namespace/name`, for messages."""
        return f"{self.metadata.namespace}/{self.metadata.name}"

    @property
    def finished(self) -> bool:
        """Whether the pod has ended for good."""
        return self.status.phase in {"Succeeded", "Failed"}


def pod(raw: object) -> Pod:
    """Parse a Pod as the API server sends it."""
    return msgspec.convert(raw, Pod)
