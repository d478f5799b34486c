"""Words that the code dropped, with the ones that it says instead: `tests/unit/test_words.py` refuses the former.

docs/terminology.md has the words that are said. A word is dropped because it had two meanings, or because a reader who
knows Kubernetes and model serving would have had to look it up.
"""

from collections.abc import Mapping
from typing import Final

CHECKED: Final = (
    "inference/ocr_inference",
    "operator/ocr_operator",
    "wire/ocr_wire",
    "plugin/kubectl_ocr",
    "devcluster",
)
"""Packages whose names and docstrings are checked."""

LATER: Final[tuple[str, ...]] = ()
"""Folders in them that aren't checked yet, since they have words to change: none."""

ANYWHERE: Final[Mapping[str, str]] = {
    "world": "ClusterState, SchedulerState",
    "mirror": "informer",
    "wakeups": "work queue",
    "arbiter": "preemption",
    "arbitration": "preemption",
    "ledger": "reservations",
    "nursery": "forkserver",
    "nurseries": "forkservers",
    "neighbour": "external usage",
    "neighbours": "external usage",
    "stranger": "foreign pods, external usage, untrusted",
    "strangers": "foreign pods, external usage, untrusted",
    "telling": "progress reporter",
    "told": "reported",
    "crowd": "queue threshold",
    "crowded": "queue threshold",
    "pace": "rate limiter",
    "paced": "with time-outs",
    "beat": "heartbeat",
    "trouble": "unhealthy reason",
    "resting": "preload suppressed",
}
"""Neither a part of a name, nor a word of a docstring, spans of code in it included."""

NAMES: Final[Mapping[str, str]] = {
    "Ask": "AdminRequest",
    "Books": "MemoryAccounting, reservations",
    "Draft": "Transaction",
    "Feed": "Latest",
    "Fleet": "PolicyController",
    "Hands": "Context",
    "Live": "LiveSettings…",
    "Look": "ProbeMemory",
    "Memory": "name what is remembered: ResourceCache, RoutingState",
    "Meter": "gpu_usage",
    "Newest": "Latest",
    "Observed": "MemoryProbed",
    "Pass": "reconcile",
    "Revoke": "LeaseLost",
    "Settled": "Done",
    "Standing": "Eligibility, PolicyUsage",
    "Wakeups": "WorkQueue",
    "Yield": "OffloadIfIdle",
    "ahead_from": "preload_not_before",
    "books": "memory_accounting, reservations",
    "fresh_token": "new_token",
    "hangs": "unschedulable",
    "homes": "gpu_to_node",
    "others_bytes": "external_bytes",
    "room": "memory_plan, memory_left",
    "silence": "idle_timeout",
    "spot": "placement",
    "stands": "eligibility",
}
"""Not a name as a whole; as a part of one, or in a sentence, it may be right."""

PROSE: Final[Mapping[str, str]] = {
    "anybody": "name it",
    "everybody": "name them",
    "loaded ahead": "preloaded",
    "nobody": "no request, no process, …",
    "somebody": "a request, a client, another pod, …",
    "who": "which, a client that, … (machines are no persons)",
    "whoever": "which, a client that, …",
    "whom": "which, a pod that, …",
}
"""Not a word of a docstring."""

FRAGMENTS: Final = frozenset(
    {"And", "As", "By", "For", "How", "Of", "Until", "Until,", "What", "Where", "Who", "Whose", "With"}
)
"""Not the first word of a function's or class's docstring: it begins with a verb, or a noun."""

ALLOWED: Final[Mapping[tuple[str, str], str]] = {
    ("operator/ocr_operator/settings.py", "arbitration"): "the names of environment variables in clusters",
}
"""(Path below the repository, word) → why the word is right there."""
