"""`kubectl ocr doctor`: what keeps OcrDeployments from working in this cluster. A pure function of what was read."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Literal

import msgspec

from kubectl_ocr import text
from kubectl_ocr.objects.cluster import Deployment
from kubectl_ocr.objects.resource import Resource
from kubectl_ocr.text import Cell, Item
from kubectl_ocr.views.facts import Facts, watches
from ocr_wire import definitions as schemas
from ocr_wire import names

Level = Literal["ok", "warning", "problem"]

HEADER: Final = ("CHECK", "RESULT", "WHAT")
UNPUBLISHED: Final = "ghcr.io/ocr-operator/"
"""Registry of the chart's default images, which aren't published."""
GUARD: Final = "OCR_OPERATOR_METRICS_TOKEN_FILE"
"""Variable of an operator whose `/metrics` asks for a token."""
INSTALL: Final = "helm upgrade --install ocr-operator charts/ocr-operator -n ocr-system --create-namespace"
_STYLES: Final = {"ok": text.GOOD, "warning": text.WARM, "problem": text.BAD}
_PULLS: Final = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_WAITS: Final = frozenset(
    {"CrashLoopBackOff", "CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
)
_NO_DEVICE: Final = frozenset({"CrashLoopBackOff", "RunContainerError"})
"""How a container ends whose runtime gives it no GPU, or refuses the variable that names one."""
_NO_GPU: Final = "docs/gpu-clusters.md#a-shared-pod-without-its-gpu"
_PUSH: Final = (
    "images aren't published: make push REGISTRY=…, with ONLY=cuda for engine transformers, and set "
    "inferenceImage of the chart; for a private registry its imagePullSecrets"
)
_SHOWN: Final = 3


class Check(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    check: str
    level: Level
    message: str
    way_out: str = ""


class Report(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    namespace: str
    plugin_version: str
    checks: tuple[Check, ...]

    @property
    def has_problems(self) -> bool:
        return any(each.level == "problem" for each in self.checks)


def report(facts: Facts) -> Report:
    """Return the results of all checks."""
    checks = []
    for name, check in CHECKS.items():
        if (why := facts.unknown.get(name)) is not None:
            found = Check(check=name, level="warning", message=text.clean(why.message), way_out=why.way_out)
        else:
            level, message, way_out = check(facts)
            found = Check(check=name, level=level, message=text.clean(message), way_out=way_out)
        checks.append(found)
    return Report(namespace=facts.namespace, plugin_version=facts.version, checks=tuple(checks))


_Found = tuple[Level, str, str]


def _definitions(facts: Facts) -> _Found:
    there = {each.metadata.name: each for each in facts.definitions or ()}
    wanted = [f"{plural}.{names.GROUP}" for plural in (names.PLURAL, names.POLICY_PLURAL)]
    if missing := [each for each in wanted if each not in there]:
        return "problem", f"not installed: {', '.join(missing)}", f"{INSTALL}, or kubectl apply -f crds/"
    versions = {there[each].metadata.labels.get("app.kubernetes.io/version", "") for each in wanted}
    own = {f"{plural}.{names.GROUP}": digest for plural, digest in schemas.DIGESTS.items()}
    others = [each for each in wanted if there[each].schema_digest not in ("", own[each])]
    if others and versions <= {"", facts.version}:
        return (
            "warning",
            f"another schema than this version's: {', '.join(others)}; fields that it doesn't have are dropped",
            "crds.enabled of the chart and helm upgrade, or kubectl apply --server-side -f crds/",
        )
    if versions == {""}:
        return "ok", "installed, and not by the chart, so their version isn't known", ""
    return "ok", f"installed, of version {', '.join(sorted(versions - {''}))}", ""


def _operator(facts: Facts) -> _Found:
    if not facts.operators:
        return "problem", "no operator is installed in this cluster", INSTALL
    found = facts.operator() or facts.operators[0]
    namespace, wanted, ready = found.metadata.namespace, found.spec.replicas, found.status.ready_replicas
    look = f"kubectl -n {namespace} describe deployment,pods -l app.kubernetes.io/name=ocr-operator"
    if wanted == 0:
        way_out = f"kubectl -n {namespace} scale deployment/{found.metadata.name} --replicas=2"
        return "problem", f"{found.full_name} is scaled to 0", way_out
    if ready == 0:
        return "problem", f"{found.full_name}: 0 of {wanted} replicas are ready", look
    works = facts.leader.held(facts.now) if facts.leader is not None else ""
    if found.variable("OCR_OPERATOR_LEASE") and facts.leader is not None and not works:
        way_out = "docs/runbooks/leader-lost.md"
        return "problem", f"{found.full_name} runs, and no replica holds its Lease", way_out
    count = f"{found.full_name}: {ready} of {wanted} replicas are ready" + (
        f", {works} works" if works else ""
    )
    return ("ok", count, "") if ready >= wanted else ("warning", count, look)


def _namespace(facts: Facts) -> _Found:
    space = facts.namespace
    mine = [each for each in facts.operators or () if watches(each, space)]
    if not mine:
        other = ", ".join(each.full_name for each in facts.operators or ()) or "none is installed"
        return (
            "problem",
            f"no operator watches namespace {space} ({other})",
            f"add it to watchNamespaces of the chart, or choose another one with -n ({INSTALL} --reuse-values)",
        )
    holder = facts.owner.held(facts.now) if facts.owner is not None else ""
    if holder:
        owner = "/".join(holder.split("/")[:2])
        return "ok", f"{owner} owns {space}", ""
    if facts.resources:
        message = f"nobody holds the Lease ocr-operator-owner of {space}, though it has OcrDeployments"
        return "warning", message, "docs/operator-settings.md#one-owner-for-a-namespace"
    return "ok", f"{mine[0].full_name} watches {space}", ""


def _wants(facts: Facts, *sharings: str) -> list[Resource]:
    return [each for each in facts.resources or () if each.spec.gpu.sharing in sharings]


def _devices(facts: Facts) -> _Found:
    wanted = {names.RESOURCE_GPU} | {each.spec.gpu.resource_name for each in _wants(facts, "exclusive")}
    counts = {each: sum(node.usable(each) for node in facts.nodes or ()) for each in sorted(wanted)}
    broken = [each.metadata.name for each in facts.nodes or () if each.usable(names.RESOURCE_GPU) < each.gpus]
    there = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    way_out = (
        "install NVIDIA's GPU Operator or device plugin (docs/gpu-clusters.md), or use gpu.sharing: none"
    )
    lacking = [
        f"{each.metadata.name} ({each.spec.gpu.resource_name})"
        for each in _wants(facts, "exclusive")
        if not counts[each.spec.gpu.resource_name]
    ]
    if lacking:
        return "problem", f"no node has the devices that {_some(lacking)} ask for", way_out
    if not there:
        level: Level = "warning" if not facts.resources else "ok"
        return (
            level,
            "no node has GPUs: resources with gpu.sharing: none work",
            way_out if level != "ok" else "",
        )
    if broken:
        message = f"{there} in all; the device plugin holds some back on {_some(broken)}"
        return "warning", message, f"kubectl describe node {broken[0]}"
    return "ok", f"{there} in {sum(1 for each in facts.nodes or () if each.gpus)} nodes", ""


def _labels(facts: Facts) -> _Found:
    on = [each for each in facts.nodes or () if each.gpus]
    bare = [each.metadata.name for each in on if not (each.product and each.gpu_memory_bytes)]
    if not on:
        return "ok", "no node has GPUs", ""
    if bare:
        message = f"without {names.LABEL_GPU_PRODUCT} and {names.LABEL_GPU_MEMORY}: {_some(bare)}"
        return "warning", message, "run GPU feature discovery there (docs/gpu-clusters.md)"
    return "ok", ", ".join(sorted({each.product for each in on})), ""


def _runtime_class(facts: Facts) -> _Found:
    there = set(facts.runtime_classes or ())
    lacking = [
        f"{each.metadata.name} ({each.spec.gpu.runtime_class_name})"
        for each in _wants(facts, "shared")
        if each.spec.gpu.runtime_class_name and each.spec.gpu.runtime_class_name not in there
    ]
    if lacking:
        way_out = 'create it (docs/gpu-clusters.md), or spec.gpu.runtimeClassName: "" where it is the default'
        return "problem", f"no RuntimeClass of the name in {_some(lacking)}: their pods are refused", way_out
    return "ok", f"there are {_some(sorted(there))}" if there else "none is needed here", ""


def _unread(facts: Facts, operator: Deployment) -> _Found | None:
    """Return what is said of an operator whose metrics say nothing, or not to this command; None for all others."""
    if operator.variable("OCR_OPERATOR_CLUSTER_ACCESS") == "none":
        if refused := [each.metadata.name for each in _wants(facts, "shared")]:
            message = f"the operator reads no nodes, and refuses gpu.sharing: shared of {_some(refused)}"
            way_out = (
                "exclusive, claim or none, or rbac.clusterWide=true (docs/operator-settings.md#roles-alone)"
            )
            return "problem", message, way_out
        return "ok", "counts for nothing: the operator reads no nodes, and leaves GPUs to the scheduler", ""
    if operator.variable(GUARD) and any(each.gpus for each in facts.nodes or ()):
        message = "the operator's /metrics asks for a token, which this command doesn't read"
        return (
            "warning",
            message,
            "ask Prometheus for ocr_operator_gpus: the GPUs whose load the operator reads",
        )
    return None


def _load(facts: Facts) -> _Found:
    operator = facts.operator()
    if operator is not None and (said := _unread(facts, operator)) is not None:
        return said
    found = facts.metrics or {}
    gpus = int(found.get("ocr_operator_gpus", 0))
    failed = found.get('ocr_operator_scrapes_total{result="failed"}', 0)
    read = found.get('ocr_operator_scrapes_total{result="read"}', 0)
    if gpus:
        return "ok", f"the operator reads the load of {gpus} GPU{'' if gpus == 1 else 's'}", ""
    way_out = (
        "docs/gpu-clusters.md#load-of-gpus; gpuExporter.enabled=true of the chart is the simplest source"
    )
    if not any(each.gpus for each in facts.nodes or ()):
        return "ok", "no node has GPUs", ""
    level: Level = "problem" if _wants(facts, "shared") else "warning"
    if failed and not read:
        message = f"the operator finds exporters, and reached none of them in {failed:.0f} tries"
        return level, message, "allow it port 9400 of the exporters (NetworkPolicies); " + way_out
    return level, "the operator finds no exporter that it believes", way_out


def _states(facts: Facts, reasons: frozenset[str]) -> Iterator[str]:
    for pod in facts.pods or ():
        for each in pod.status.container_statuses:
            waiting = each.state.waiting
            if waiting is not None and waiting.reason in reasons:
                image = next((it.image for it in pod.spec.containers if it.name == each.name), "")
                yield f"{pod.metadata.name}: {waiting.reason}: {image if reasons is _PULLS else waiting.message}"


def _images(facts: Facts) -> _Found:
    if bad := list(_states(facts, _PULLS)):
        return "problem", _some(bad, "; "), _PUSH
    pulled: set[str] = set()
    others: set[str] = set()
    for pod in facts.pods or ():
        there = {each.name for each in pod.status.container_statuses if each.image_id}
        for each in pod.spec.containers:
            if each.name == names.CONTAINER and each.image:
                (pulled if each.name in there else others).add(each.image)
    said = [f"pulled: {_some(sorted(pulled))}"] if pulled else []
    if waiting := others - pulled:
        said.append(f"no node of these pods has {_some(sorted(waiting))} yet")
    operator = facts.operator()
    default = operator.variable("OCR_OPERATOR_INFERENCE_IMAGE") if operator is not None else ""
    if not facts.pods:
        said.append("no pods yet" + (f", which would pull {default}" if default else ""))
    doubtful = [each for each in waiting or {default} if not pulled and each.startswith(UNPUBLISHED)]
    return ("warning", "; ".join(said), _PUSH) if doubtful else ("ok", "; ".join(said), "")


def _hidden(facts: Facts) -> str:
    """Return where to go on reading if the cause may be a runtime that keeps GPUs from a pod; else nothing."""
    shared = {each.metadata.name: each.condition("Degraded") for each in _wants(facts, "shared")}
    wrong = any(
        found is not None and found.reason in ("WrongGpu", "CrashLooping") for found in shared.values()
    )
    ends = any(
        pod.deployment in shared
        and each.state.waiting is not None
        and each.state.waiting.reason in _NO_DEVICE
        for pod in facts.pods or ()
        for each in pod.status.container_statuses
    )
    return f"; if a pod has no GPU: {_NO_GPU}" if wrong or ends else ""


def _pods(facts: Facts) -> _Found:
    if bad := list(_states(facts, _WAITS)):
        return "problem", _some(bad, "; "), "kubectl ocr status, and kubectl logs of the pod" + _hidden(facts)
    degraded = [
        f"{each.metadata.name}: {found.reason}: {found.message}"
        for each in facts.resources or ()
        if (found := each.condition("Degraded")) is not None and found.status == "True"
    ]
    if degraded:
        return "problem", _some(degraded, "; "), "docs/status.md says what each reason means" + _hidden(facts)
    ready = sum(1 for each in facts.pods or () if each.ready)
    return (
        "ok",
        f"{ready} of {_count(facts.pods, 'pod')} of {_count(facts.resources, 'OcrDeployment')} ready",
        "",
    )


def _versions(facts: Facts) -> _Found:
    operator = facts.operator()
    found = {"plugin": facts.version, "operator": operator.version if operator is not None else ""}
    found |= {
        each.metadata.name: version
        for each in facts.definitions or ()
        if (version := each.metadata.labels.get("app.kubernetes.io/version", ""))
    }
    known = {name: version for name, version in found.items() if version}
    said = ", ".join(f"{name} {version}" for name, version in known.items())
    if len(set(known.values())) > 1:
        return (
            "warning",
            said,
            "helm upgrade, and make init for the plugin; docs/upgrades.md says what may differ",
        )
    return "ok", said, ""


CHECKS: Final[Mapping[str, Callable[[Facts], _Found]]] = {
    "definitions": _definitions,
    "operator": _operator,
    "namespace": _namespace,
    "devices": _devices,
    "labels": _labels,
    "runtime class": _runtime_class,
    "GPU load": _load,
    "images": _images,
    "pods": _pods,
    "versions": _versions,
}
"""In the order in which they depend on each other."""


def _count(listed: Sequence[object] | None, what: str) -> str:
    count = len(listed or ())
    return f"{count} {what}{'' if count == 1 else 's'}"


def _some(listed: Sequence[str], joint: str = ", ") -> str:
    more = len(listed) - _SHOWN
    return joint.join(listed[:_SHOWN]) + (f"{joint}and {more} more" if more > 0 else "")


def render(found: Report, paint: text.Paint = text.plain) -> str:
    items = [Item([each.check, Cell(each.level, _STYLES[each.level]), each.message]) for each in found.checks]
    header, *rows = text.table(HEADER, items, paint).split("\n")
    lines = [header]
    for row, each in zip(rows, found.checks, strict=True):
        lines.append(row)
        lines.extend([paint(f"               → {each.way_out}", text.DIM)] if each.way_out else [])
    return "\n".join(lines)
