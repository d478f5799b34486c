"""The command line: commands, options, help. Pure: words in, `Options` out."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ocr_wire import tasks
from ocr_wire.settings import MAX_SECONDS, NEVER

COMMANDS: Final = {
    "status": "resources, their pods, GPUs and models, with idle countdowns",
    "top": "GPUs by node: who is on them and what is resident",
    "why": "why a pod is on its GPU, or why it waits",
    "wake": "load or restore a model, without a page",
    "offload": "move models from the GPU to host memory",
    "release": "drop models from the GPU and host memory",
    "timeout": "change idle timeouts and wait until all pods work by them",
    "read": "read the text of a picture",
}

_EXAMPLES: Final = {
    "status": """\
  kubectl ocr status                      all resources of the namespace
  kubectl ocr status invoices -w          follow one, until Ctrl-C
  kubectl ocr status -A -o json""",
    "top": """\
  kubectl ocr top                         all namespaces, where that is allowed
  kubectl ocr top -n team-a""",
    "why": "  kubectl ocr why invoices-59d8b84b99-5ztl9",
    "wake": """\
  kubectl ocr wake invoices               the default model, in every ready pod
  kubectl ocr wake invoices --pod invoices-59d8b84b99-5ztl9 --model deepseek-ocr""",
    "offload": """\
  kubectl ocr offload invoices            all models, in every ready pod
  kubectl ocr offload invoices --model deepseek-ocr""",
    "release": "  kubectl ocr release invoices --pod invoices-59d8b84b99-5ztl9",
    "timeout": """\
  kubectl ocr timeout invoices 300        offload after 300 s without a request
  kubectl ocr timeout invoices 5m --exit 1h --release never
  kubectl ocr timeout invoices 30 --model deepseek-ocr""",
    "read": """\
  kubectl ocr read invoices page.png
  kubectl ocr read invoices page.png --task find --find-term total --format json
  kubectl ocr read invoices - <page.png   from a pipe""",
}

_STATUSES: Final = """\
exit status: 0 done; 1 refused; 2 usage, or a value that isn't right; 3 no such thing; 4 not allowed; 5 not now,
may succeed later; 127 no kubectl. docs/kubectl-plugin.md has more."""


@dataclass(frozen=True, kw_only=True)
class Options:
    command: str
    kubectl: tuple[str, ...] = ()
    """Flags of every call, such as `--context=x`."""
    namespace: str = ""
    everywhere: bool = False
    output: str = "table"
    name: str = ""
    """A resource, or the pod of `why`."""
    pod: str = ""
    model: str = ""
    watch: bool = False
    within: float = 300.0
    offload: float | None = None
    exit: float | None = None
    release: float | None = None
    file: str = ""
    task: str = ""
    find_term: str = ""
    prompt: str = ""
    format: str = "markdown"


def parse(arguments: Sequence[str]) -> Options:
    """Return the options of a command line. Ends the process with status 2, or 0 after help, as argparse does."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.command is None:
        parser.print_help()
        parser.exit()
    values = vars(given)
    flags = [f"--{flag}={values.pop(flag)}" for flag in ("context", "kubeconfig") if flag in values]
    if (user := values.pop("as_user", None)) is not None:
        flags.append(f"--as={user}")
    options = Options(kubectl=tuple(flags), **values)
    if options.command == "timeout" and {options.offload, options.exit, options.release} == {None}:
        parser.error("timeout needs SECONDS, --exit or --release")
    if options.watch and options.output != "table":
        parser.error("-w follows as a table; -o json and yaml print once")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kubectl ocr",
        description="Look at OCR models on shared GPUs, and control them.",
        epilog=_STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _common(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    made = {
        name: commands.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=f"examples:\n{_EXAMPLES[name]}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        for name, text in COMMANDS.items()
    }
    for each in made.values():
        _common(each)
    for name in ("status", "top"):
        made[name].add_argument("-A", "--all-namespaces", dest="everywhere", action="store_true")
    made["status"].add_argument("name", metavar="NAME", nargs="?", default="", help="one resource; else all")
    made["status"].add_argument(
        "-w", "--watch", action="store_true", help="ask again every 2 s, until Ctrl-C"
    )
    made["why"].add_argument("name", metavar="POD")
    for name in ("wake", "offload", "release", "timeout", "read"):
        made[name].add_argument("name", metavar="NAME", help="of the OcrDeployment")
        made[name].add_argument("--model", default="", help="this model of the resource")
        made[name].add_argument(
            "--within", type=_wait, default=300.0, metavar="SECONDS", help="give up after that time (300)"
        )
    for name in ("wake", "offload", "release", "read"):
        made[name].add_argument("--pod", default="", help="this pod of the resource")
    for name in ("status", "top", "why", "wake", "offload", "release", "timeout"):
        made[name].add_argument(
            "-o", "--output", choices=("table", "json", "yaml"), default="table", help="default: table"
        )
    _timeout(made["timeout"])
    _read(made["read"])
    return parser


def _common(parser: argparse.ArgumentParser) -> None:
    """Add the options that may stand before and after the command: one that isn't given must not hide one that is."""
    group = parser.add_argument_group("passed on to kubectl")
    group.add_argument("--context", default=argparse.SUPPRESS, help="context of the kubeconfig")
    group.add_argument("--kubeconfig", default=argparse.SUPPRESS, help="the kubeconfig file")
    group.add_argument(
        "--as", dest="as_user", metavar="USER", default=argparse.SUPPRESS, help="act as this user"
    )
    group.add_argument("-n", "--namespace", default=argparse.SUPPRESS, help="namespace")


def _timeout(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "offload",
        metavar="SECONDS",
        nargs="?",
        type=_idle,
        help="GPU → host memory after that long without a request: 300, 5m, 1h, 0 (at once), never",
    )
    parser.add_argument("--exit", type=_idle, metavar="SECONDS", help="end the worker process after that")
    parser.add_argument("--release", type=_idle, metavar="SECONDS", help="drop from host memory after that")


def _read(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", metavar="PICTURE", help="PNG, JPEG, WEBP, TIFF, BMP or GIF; - for standard input"
    )
    parser.add_argument(
        "--task", choices=tasks.WORDS, default="", help="default: document, with --format text: free"
    )
    needs = {each.needs: f"--task {each.task} needs it" for each in tasks.TASKS}
    parser.add_argument("--find-term", default="", help=f"what to look for; {needs['find_term']}")
    parser.add_argument("--prompt", default="", help=f"your own prompt; {needs['custom_prompt']}")
    parser.add_argument(
        "--format", choices=("markdown", "text", "json"), default="markdown", help="json: boxes and all"
    )


def _idle(word: str) -> float:
    """Return the seconds of an idle timeout, -1 for never."""
    if word in {"never", str(NEVER)}:
        return NEVER
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([smh]?)", word, re.ASCII)
    seconds = float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]] if found else -1.0
    if not 0 <= seconds <= MAX_SECONDS:
        raise argparse.ArgumentTypeError(
            f"{word[:40]!r} is no idle time: seconds up to {MAX_SECONDS}, or 5m, 1h, never"
        )
    return int(seconds) if seconds.is_integer() else seconds


def _wait(word: str) -> float:
    seconds = _idle(word)
    if seconds <= 0:
        raise argparse.ArgumentTypeError("the time to wait must be more than 0")
    return seconds
