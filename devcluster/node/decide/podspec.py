"""The environment, arguments and volume files of a container, from the pod and the objects it refers to. Pure."""

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from devcluster.kube.model import (
    Container,
    DownwardItem,
    DownwardSource,
    EnvVar,
    KeyedSource,
    KeyRef,
    Mount,
    ObjectRef,
    Pod,
    ProjectedSource,
    Projection,
    TokenSource,
    Volume,
)

TOKEN_MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105  a path
TEMPORARY_MOUNT = "/tmp"  # noqa: S108  a path in the pod, which becomes a folder of its own
DEFAULT_MODE = 0o644
_REFERENCE = re.compile(r"\$(\$|\(([-._a-zA-Z][-._a-zA-Z0-9]*)\))")
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


class ConfigError(Exception):
    """Error of a pod that needs what is missing (yet) or what process nodes don't do. The message names it."""


@dataclass(frozen=True)
class Token:
    """Service account token that a pod mounts."""

    audience: str
    expiration_seconds: int


@dataclass(frozen=True)
class Needs:
    """Objects that a pod refers to, by name within its namespace."""

    secrets: frozenset[str] = frozenset()
    config_maps: frozenset[str] = frozenset()
    tokens: frozenset[Token] = frozenset()

    def __or__(self, other: "Needs") -> "Needs":
        return Needs(
            self.secrets | other.secrets, self.config_maps | other.config_maps, self.tokens | other.tokens
        )


@dataclass(frozen=True)
class Context:
    """Data that a pod's texts are made from. A name that is missing in `secrets` or `config_maps` doesn't exist."""

    pod: Pod
    node_name: str
    host_ip: str
    pod_ip: str
    secrets: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    config_maps: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    tokens: Mapping[Token, str] = field(default_factory=dict)


@dataclass(frozen=True)
class File:
    """File of a volume."""

    content: bytes
    mode: int = DEFAULT_MODE


def _source_needs(source: Volume | Projection) -> Needs:
    needs = Needs()
    if source.secret is not None:
        needs |= Needs(secrets=frozenset({source.secret.secret_name or source.secret.name}))
    if source.config_map is not None:
        needs |= Needs(config_maps=frozenset({source.config_map.name}))
    if isinstance(source, Projection) and (token := source.service_account_token) is not None:
        needs |= Needs(tokens=frozenset({_token(token)}))
    return needs


def _token(source: TokenSource) -> Token:
    return Token(source.audience, source.expiration_seconds)


def volume_needs(pod: Pod) -> Needs:
    """Return the objects that the pod's volumes refer to."""
    needs = Needs()
    for volume in pod.spec.volumes:
        needs |= _source_needs(volume)
        for projection in volume.projected.sources if volume.projected else []:
            needs |= _source_needs(projection)
    return needs


def environment_needs(container: Container) -> Needs:
    """Return the objects that a container's environment refers to."""
    needs = Needs()
    for variable in container.env:
        source = variable.value_from
        if source is not None and source.secret_key_ref is not None:
            needs |= Needs(secrets=frozenset({source.secret_key_ref.name}))
        if source is not None and source.config_map_key_ref is not None:
            needs |= Needs(config_maps=frozenset({source.config_map_key_ref.name}))
    for origin in container.env_from:
        if origin.secret_ref is not None:
            needs |= Needs(secrets=frozenset({origin.secret_ref.name}))
        if origin.config_map_ref is not None:
            needs |= Needs(config_maps=frozenset({origin.config_map_ref.name}))
    return needs


def field_value(path: str, context: Context) -> str:
    """Return the value of a `fieldRef`; an absent label or annotation is the empty string, as in Kubernetes."""
    meta, spec = context.pod.metadata, context.pod.spec
    if match := _SUBSCRIPT.fullmatch(path):
        return (meta.labels if match[1] == "labels" else meta.annotations).get(match[2], "")
    known = {
        "metadata.name": meta.name,
        "metadata.namespace": meta.namespace,
        "metadata.uid": meta.uid,
        "metadata.labels": _pairs(meta.labels),
        "metadata.annotations": _pairs(meta.annotations),
        "spec.nodeName": context.node_name,
        "spec.serviceAccountName": spec.service_account_name,
        "status.podIP": context.pod_ip,
        "status.podIPs": context.pod_ip,
        "status.hostIP": context.host_ip,
        "status.hostIPs": context.host_ip,
    }
    if path not in known:
        raise ConfigError(f"fieldRef {path!r} isn't known to process nodes")
    return known[path]


def _pairs(values: Mapping[str, str]) -> str:
    """Return labels or annotations in the format of the downward API: `key="escaped value"`, sorted."""
    escape = {"\\": r"\\", '"': r"\"", "\n": r"\n"}
    return "\n".join(
        f'{key}="{"".join(escape.get(letter, letter) for letter in values[key])}"' for key in sorted(values)
    )


def expand(text: str, values: Mapping[str, str]) -> str:
    """Put variables in for `$(NAME)`; `$$` is a dollar sign, an unknown reference stays as it is."""

    def put(match: re.Match[str]) -> str:
        return "$" if match[1] == "$" else values.get(match[2], match[0])

    return _REFERENCE.sub(put, text)


def environment(container: Container, context: Context, base: Mapping[str, str]) -> dict[str, str]:
    """Return the variables: `base` (from the node), then `envFrom`, then `env`; each may refer to earlier ones."""
    values = dict(base)
    for origin in container.env_from:
        for reference, kind, objects in (
            (origin.config_map_ref, "configmap", context.config_maps),
            (origin.secret_ref, "secret", context.secrets),
        ):
            if reference is not None:
                found = _whole(reference, kind, objects)
                values.update(
                    {origin.prefix + key: value.decode(errors="replace") for key, value in found.items()}
                )
    for variable in container.env:
        value = _variable(variable, context, values)
        if value is not None:
            values[variable.name] = value
    return values


def _whole(
    reference: ObjectRef, kind: str, objects: Mapping[str, Mapping[str, bytes]]
) -> Mapping[str, bytes]:
    found = objects.get(reference.name)
    if found is None and not reference.optional:
        raise ConfigError(f'{kind} "{reference.name}" not found')
    return found or {}


def _variable(variable: EnvVar, context: Context, values: Mapping[str, str]) -> str | None:
    """Return the value of one variable; None for an optional reference to nothing."""
    source = variable.value_from
    if source is None:
        return expand(variable.value, values)
    if source.field_ref is not None:
        return field_value(source.field_ref.field_path, context)
    if source.secret_key_ref is not None:
        return _key(source.secret_key_ref, "secret", context.secrets)
    if source.config_map_key_ref is not None:
        return _key(source.config_map_key_ref, "configmap", context.config_maps)
    raise ConfigError(
        f"variable {variable.name} has a source that process nodes don't know (such as resourceFieldRef)"
    )


def _key(reference: KeyRef, kind: str, objects: Mapping[str, Mapping[str, bytes]]) -> str | None:
    found = objects.get(reference.name)
    if found is not None and reference.key in found:
        return found[reference.key].decode(errors="replace")
    if reference.optional:
        return None
    if found is None:
        raise ConfigError(f'{kind} "{reference.name}" not found')
    raise ConfigError(f'couldn\'t find key {reference.key} in {kind} "{reference.name}"')


def volume_files(volume: Volume, context: Context) -> dict[str, File] | None:
    """Return the files of a volume that the node updates, by path within it; None for a folder that the pod owns."""
    if volume.persistent_volume_claim is not None:
        raise ConfigError(
            f'volume "{volume.name}": process nodes have no persistent volumes; use emptyDir or hostPath'
        )
    if volume.secret is not None:
        return _keyed(volume.secret, "secret", context.secrets, volume.secret.default_mode)
    if volume.config_map is not None:
        return _keyed(volume.config_map, "configmap", context.config_maps, volume.config_map.default_mode)
    if volume.downward_api is not None:
        return _downward(volume.downward_api, context, volume.downward_api.default_mode)
    if volume.projected is not None:
        return _projected(volume.projected, context)
    if volume.empty_dir is not None or volume.host_path is not None:
        return None
    raise ConfigError(f'volume "{volume.name}" is of a kind that process nodes don\'t know')


def _keyed(
    source: KeyedSource, kind: str, objects: Mapping[str, Mapping[str, bytes]], mode: int | None
) -> dict[str, File]:
    name = source.secret_name or source.name
    found = objects.get(name)
    if found is None:
        if source.optional:
            return {}
        raise ConfigError(f'{kind} "{name}" not found')
    fallback = DEFAULT_MODE if mode is None else mode
    if not source.items:
        return {key: File(value, fallback) for key, value in found.items()}
    files = {}
    for item in source.items:
        if item.key in found:
            files[_inside(item.path)] = File(found[item.key], fallback if item.mode is None else item.mode)
        elif not source.optional:
            raise ConfigError(f'{kind} "{name}" has no key {item.key!r}')
    return files


def _downward(source: DownwardSource, context: Context, mode: int | None) -> dict[str, File]:
    fallback = DEFAULT_MODE if mode is None else mode
    return {
        _inside(item.path): File(
            _downward_content(item, context), fallback if item.mode is None else item.mode
        )
        for item in source.items
    }


def _downward_content(item: DownwardItem, context: Context) -> bytes:
    if item.field_ref is None:
        raise ConfigError(
            f"downward API file {item.path!r} has a resourceFieldRef, which process nodes don't know"
        )
    return field_value(item.field_ref.field_path, context).encode()


def _projected(source: ProjectedSource, context: Context) -> dict[str, File]:
    mode = source.default_mode
    files: dict[str, File] = {}
    for part in source.sources:
        if part.secret is not None:
            files |= _keyed(part.secret, "secret", context.secrets, mode)
        elif part.config_map is not None:
            files |= _keyed(part.config_map, "configmap", context.config_maps, mode)
        elif part.downward_api is not None:
            files |= _downward(part.downward_api, context, mode)
        elif part.service_account_token is not None:
            token = part.service_account_token
            content = context.tokens[_token(token)].encode()
            files[_inside(token.path)] = File(content, DEFAULT_MODE if mode is None else mode)
        else:
            raise ConfigError("a projected volume has a source that process nodes don't know")
    return files


def _inside(path: str) -> str:
    """Return a path within its volume. The API server refuses others; this is a second check."""
    normal = posixpath.normpath(path)
    if normal.startswith(("/", "..")) or normal == ".":
        raise ConfigError(f"path {path!r} leaves its volume")
    return normal


def mounted_at(
    mounts: Iterable[Mount], folders: Mapping[str, str], values: Mapping[str, str]
) -> dict[str, str]:
    """Return the real path of each `mountPath`: the folder of its volume, or the `subPath` in it."""
    places = {}
    for mount in mounts:
        if mount.name not in folders:
            raise ConfigError(f'volumeMount "{mount.name}" names no volume')
        inside = mount.sub_path or expand(mount.sub_path_expr, values)
        folder = folders[mount.name]
        places[posixpath.normpath(mount.mount_path)] = f"{folder}/{_inside(inside)}" if inside else folder
    return places


def rewrite(text: str, places: Mapping[str, str]) -> str:
    """Replace each mount path that occurs in `text` as a path, or as the beginning of one, by its place.

    `--config=/etc/app/config.yaml` is a path under `/etc/app`; `https://host/etc/app` and `/etc/application` aren't.
    """
    if not places:
        return text
    choices = "|".join(re.escape(path) for path in sorted(places, key=len, reverse=True))
    pattern = re.compile(rf"(?<![\w./~-])({choices})(?![\w.~-])")
    return pattern.sub(lambda match: places[match[1]], text)


@dataclass(frozen=True)
class Command:
    """Command that is started for a container."""

    argv: list[str]
    env: dict[str, str]
    folder: str


def command(
    argv: Sequence[str], container: Container, values: Mapping[str, str], places: Mapping[str, str], home: str
) -> Command:
    """Put places into a program's arguments, environment and working folder."""
    return Command(
        [rewrite(word, places) for word in argv],
        {name: rewrite(value, places) for name, value in values.items()},
        rewrite(container.working_dir, places) or home,
    )
