"""An operator's process on a control plane without kubelets: a test says of pods what kubelets would say."""

import dataclasses
import json
import re
from datetime import UTC, datetime
from typing import Any

from ocr_wire import names
from tests.support.cluster import Place
from tests.support.waiting import until


@dataclasses.dataclass(frozen=True)
class Scene:
    """An operator, and a namespace of its own."""

    place: Place
    namespace: str

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        return self.place.kubectl("-n", self.namespace, *arguments, stdin=stdin)

    def apply(self, name: str, template: dict[str, Any] | None = None, **spec: Any) -> None:
        """One replica that needs no GPU."""
        models = [{"name": "pp-ocr", "engine": "rapidocr"}]
        spec = {"models": models, "gpu": {"sharing": "none"}, "template": {"spec": template or {}}} | spec
        body = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": {"name": name}, "spec": spec}
        self.kubectl("apply", "-f", "-", stdin=json.dumps(body))

    def get(self, kind: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl("get", kind, name, "-o", "json"))
        return found

    def condition(self, name: str, type_: str) -> dict[str, Any]:
        listed = self.get("ocr", name).get("status", {}).get("conditions", [])
        return next((each for each in listed if each["type"] == type_), {})

    def events(self, name: str, reason: str) -> list[dict[str, Any]]:
        listed = json.loads(self.kubectl("get", "events", "-o", "json"))["items"]
        return [each for each in listed if (each["involvedObject"]["name"], each["reason"]) == (name, reason)]

    def pods(self, name: str) -> list[dict[str, Any]]:
        label = f"{names.LABEL_DEPLOYMENT}%3D{name}"
        found: list[dict[str, Any]] = self.place.ask(
            f"/api/v1/namespaces/{self.namespace}/pods?labelSelector={label}"
        )["items"]
        return found

    def bound(self, name: str) -> list[dict[str, Any]]:
        """Its pods on nodes that neither ended nor are to end."""
        return [
            each
            for each in self.pods(name)
            if each["spec"].get("nodeName")
            and each["status"]["phase"] in ("Pending", "Running")
            and "deletionTimestamp" not in each["metadata"]
        ]

    def quota(self, **most: int) -> None:
        """A ResourceQuota of the namespace that allows no more of anything: `pods=1`."""
        hard = {name: str(number) for name, number in most.items()}
        meta = {"name": "few"}
        body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta, "spec": {"hard": hard}}
        self.kubectl("apply", "-f", "-", stdin=json.dumps(body))
        until(lambda: self.get("quota", "few").get("status", {}).get("hard") == hard, what="it counts")

    def written(self, *kinds: str) -> int:
        """How often somebody has tried to write one of these kinds (plurals) so far, by the API server's own metric."""
        metrics = self.place.kubectl("get", "--raw", "/metrics")
        found = re.findall(r"^apiserver_request_total\{(.*)\} (\S+)$", metrics, flags=re.MULTILINE)
        labelled = [(dict(re.findall(r'(\w+)="(.*?)"', labels)), float(count)) for labels, count in found]
        return sum(
            int(count)
            for labels, count in labelled
            if labels["resource"] in kinds and labels["verb"] not in ("GET", "LIST", "WATCH")
        )

    def set_status(self, kind: str, name: str, status: dict[str, Any]) -> None:
        patch = json.dumps({"status": status})
        self.kubectl("patch", kind, name, "--subresource=status", "--type=merge", "-p", patch)

    def stop(self, name: str) -> None:
        """What a kubelet does with pods that are to end."""
        for pod in self.pods(name):
            if "deletionTimestamp" in pod["metadata"]:
                self.kubectl("delete", "pod", pod["metadata"]["name"], "--force", "--grace-period=0")

    def refuse(self, name: str) -> None:
        """What a kubelet says of a pod that it doesn't admit."""
        for pod in self.pods(name):
            if pod["spec"].get("nodeName") and pod["status"]["phase"] == "Pending":
                status = {"phase": "Failed", "reason": "UnexpectedAdmissionError", "startTime": now()}
                words = {"message": "Pod was rejected: Allocate failed due to no devices"}
                self.set_status("pod", pod["metadata"]["name"], status | words)

    def evict(self, pod: dict[str, Any]) -> None:
        """What a kubelet says of a pod that it ends because its node runs short of memory."""
        kept = [each for each in pod["status"]["conditions"] if each["type"] != "Ready"]
        ended = {"type": "Ready", "status": "False", "reason": "PodFailed", "lastTransitionTime": now()}
        words = {"reason": "Evicted", "message": "The node was low on resource: memory."}
        status = {"phase": "Failed", "conditions": [*kept, ended], **words}
        self.set_status("pod", pod["metadata"]["name"], status)

    def restarted(self, pod: dict[str, Any], restarts: int, state: dict[str, Any], **last: Any) -> None:
        """What a kubelet says of a pod whose server ended, as `last`, and is in `state` now."""
        ready = "running" in state
        kept = [each for each in pod["status"]["conditions"] if each["type"] != "Ready"]
        new = {"type": "Ready", "status": str(ready), "lastTransitionTime": now()}
        ended = {"startedAt": now(), "finishedAt": now(), **last}
        container = {"name": names.CONTAINER, "image": "a", "imageID": "", "restartCount": restarts}
        container |= {"ready": ready, "state": state, "lastState": {"terminated": ended}}
        status = {"phase": "Running", "conditions": [*kept, new], "containerStatuses": [container]}
        self.set_status("pod", pod["metadata"]["name"], status)

    def last_failure(self, name: str) -> dict[str, Any]:
        """That of its only pod, without the time."""
        listed = self.get("ocr", name).get("status", {}).get("pods", [{}])
        found = listed[0].get("lastFailure", {}) if listed else {}
        return {key: value for key, value in found.items() if key != "time"}

    def run(self, name: str) -> bool:
        """What a kubelet says of a pod that is ready; whether there was one."""
        for pod in self.pods(name):
            if pod["spec"].get("nodeName") and pod["status"]["phase"] == "Pending":
                ready = {"type": "Ready", "status": "True", "lastTransitionTime": now()}
                conditions = [*pod["status"]["conditions"], ready]
                self.set_status(
                    "pod", pod["metadata"]["name"], {"phase": "Running", "conditions": conditions}
                )
                return True
        return False


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
