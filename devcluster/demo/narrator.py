"""What the reader of the demo sees: numbered steps, commands and their output, a table of the pods."""

import sys
import time
from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]


class Narrator:
    """Writer of the demo's text: numbered steps, commands as a user types them, their output indented."""

    def __init__(self) -> None:
        self._step = 0
        self._start = time.monotonic()

    def step(self, text: str) -> None:
        self._step += 1
        self.say(f"\n{self._step}. {text}  [{time.monotonic() - self._start:.0f} s]")

    def say(self, text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def indent(self, text: str) -> None:
        for line in text.rstrip().splitlines():
            self.say(f"     {line}")


def states(resource: Row) -> list[str]:
    """Return the `location` of each pod's first model, in pod order; pods that haven't reported yet are missing."""
    return [
        model["location"]
        for pod in resource.get("status", {}).get("pods", [])
        for model in pod.get("models", [])[:1]
    ]


def table(resource: Row) -> str:
    rows = [("POD", "NODE", "GPU", "AWAKE", "STATE", "LOCATION", "SETTINGS")]
    for pod in resource["status"]["pods"]:
        gpus = ",".join(gpu["uuid"] for gpu in pod.get("gpus", [])) or "-"
        for model in pod.get("models", []):
            applied = f"generation {pod.get('appliedGeneration', '-')}"
            awake = "yes" if pod.get("awake") else "-"
            rows.append(
                (pod["name"], pod.get("node", "-"), gpus, awake, model["state"], model["location"], applied)
            )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
