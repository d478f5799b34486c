"""`kubectl_complete-ocr`: kubectl asks it for completions of `kubectl ocr …` (kubectl 1.26 and newer).

It prints candidates, one a line, and a directive of the completion library that kubectl uses (spf13/cobra).
"""

import asyncio
import itertools
import sys
from collections.abc import Sequence
from typing import Final

from kubectl_ocr import cli
from kubectl_ocr.cli import Options
from kubectl_ocr.cluster import connect
from kubectl_ocr.errors import Failure
from ocr_wire import names, tasks

FILES, NO_FILES = 0, 4
"""Directives: the shell may offer files as well, or not."""

_VALUED: Final = frozenset(
    {
        "--context",
        "--kubeconfig",
        "--as",
        "-n",
        "--namespace",
        "--model",
        "--pod",
        "--within",
        "--exit",
        "--for",
    }
    | {"--release", "-o", "--output", "--task", "--format", "--find-term", "--prompt", "--pages"}
)
_CHOICES: Final = {
    **dict.fromkeys(("-o", "--output"), ("table", "json", "yaml")),
    "--format": cli.FORMATS,
    "--task": tasks.WORDS,
}


_ASKED: Final = {"--pod": "pods", "-n": "namespaces", "--namespace": "namespaces"}


def wanted(words: Sequence[str]) -> tuple[str, Sequence[str], int]:
    """Return (kind of names to ask the cluster for, known candidates, directive) for the last of the words."""
    before = words[:-1]
    last = before[-1] if before else ""
    if last == "--output" and "read" in before:
        return "", (), FILES  # a folder there, a format elsewhere
    if last in _VALUED:
        return _ASKED.get(last, ""), _CHOICES.get(last, ()), FILES if last == "--kubeconfig" else NO_FILES
    given = [
        word
        for at, word in enumerate(before)
        if not word.startswith("-") and not (at and before[at - 1] in _VALUED)
    ]
    match given:
        case []:
            return "", tuple(f"{name}\t{text}" for name, text in cli.COMMANDS.items()), NO_FILES
        case [command] if command in cli.COMMANDS:
            return {"why": "pods", "top": "", "doctor": ""}.get(command, names.RESOURCE), (), NO_FILES
        case _:
            return "", (), FILES if given[0] == "read" else NO_FILES


def main() -> int:
    words = sys.argv[1:]
    kind, candidates, directive = wanted(words)
    current = words[-1] if words else ""
    found = list(candidates)
    if kind:
        try:
            found = asyncio.run(_names(kind, words))
        except Failure:
            found = []  # a shell has no place for complaints
    print("\n".join([*(each for each in found if each.startswith(current)), f":{directive}"]))
    return 0


async def _names(kind: str, words: Sequence[str]) -> list[str]:
    given = dict(itertools.pairwise(words))
    flags = [f"{flag}={given[flag]}" for flag in ("--context", "--kubeconfig") if flag in given]
    namespace = given.get("-n") or given.get("--namespace", "")
    cluster = connect(Options(command="", kubectl=tuple(flags), namespace=namespace))
    return await cluster.known(kind, names.LABEL_DEPLOYMENT if kind == "pods" else "")


if __name__ == "__main__":
    sys.exit(main())
