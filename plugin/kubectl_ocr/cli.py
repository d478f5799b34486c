"""The command line: commands, options, help. Pure: words in, `Options` out."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ocr_wire import tasks
from ocr_wire.arguments import parser_class, unknown
from ocr_wire.settings import MAX_SECONDS, NEVER

COMMANDS: Final = {
    "status": "resources, their pods, GPUs and models, with idle countdowns",
    "top": "GPUs by node: who is on them and what is resident",
    "why": "why a pod is on its GPU or waits, gets requests, lost its GPU memory",
    "doctor": "whether the cluster has what OcrDeployments need, and the way out",
    "wake": "load or restore a model, without a page",
    "offload": "move models from the GPU to host memory",
    "release": "drop models from the GPU and host memory",
    "timeout": "change idle timeouts, for a while or for good, and wait until all pods work by them",
    "read": "read pictures, PDFs, TIFFs and folders of them",
}

FORMATS: Final = ("markdown", "text", "json", "docx", "pdf")
FILES: Final = frozenset({"docx", "pdf"})
"""Those that the server makes, and no terminal shows."""

_EXAMPLES: Final = {
    "status": """\
  kubectl ocr status                      all resources of the namespace
  kubectl ocr status invoices -w          follow one, until Ctrl-C
  kubectl ocr status -A -o json""",
    "top": """\
  kubectl ocr top                         all namespaces, where that is allowed
  kubectl ocr top -n team-a""",
    "why": "  kubectl ocr why invoices-59d8b84b99-5ztl9",
    "doctor": """\
  kubectl ocr doctor                      the current namespace, and what it needs of the cluster
  kubectl ocr doctor -n team-a -o json""",
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
  kubectl ocr timeout invoices 30 --model deepseek-ocr
  kubectl ocr timeout invoices 30 --for 2h
                                          by an override that ends; Helm, Argo CD and Flux leave it alone
  kubectl ocr timeout invoices --clear    remove the override""",
    "read": """\
  kubectl ocr read invoices page.png
  kubectl ocr read invoices page.png --task find --find-term total --format json
  kubectl ocr read invoices contract.pdf --pages 1-3,7
  kubectl ocr read invoices scans/ --output text
                                          scans/2024/a.pdf → text/2024/a.pdf.md; again: only what is new
  kubectl ocr read invoices contract.pdf --format docx --output .
  kubectl ocr read invoices - <page.png   from a pipe""",
}

_STATUSES: Final = """\
exit status: 0 done; 1 refused, or doctor found a problem; 2 usage, or a value that isn't right; 3 no such thing;
4 not allowed; 5 not now, may succeed later; 6 some pages or documents couldn't be read; 127 no kubectl.
docs/kubectl-plugin.md has more."""


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
    lasts: float | None = None
    """Seconds after which an override ends."""
    clear: bool = False
    files: tuple[str, ...] = ()
    """Files and folders of `read`; `-` is standard input."""
    folder: str = ""
    """Where `read` writes; empty: it prints."""
    force: bool = False
    pages: str = ""
    task: str = ""
    find_term: str = ""
    prompt: str = ""
    format: str = "markdown"


def parse(arguments: Sequence[str]) -> Options:
    """Return the options of a command line. Ends the process with status 2, or 0 after help, as argparse does."""
    parser = _parser()
    _refuse_empty(parser, arguments)
    given, rest = parser.parse_known_args(arguments)
    if given.command == "timeout" and given.offload is None and len(rest) == 1 and rest[0][:2] != "--":
        # argparse takes SECONDS behind an option for one word too many: it has settled before that there is none.
        try:
            given.offload = _idle(rest.pop())
        except argparse.ArgumentTypeError as error:
            parser.error(str(error))
    if rest:
        parser.error(unknown(rest))
    if given.command is None:
        parser.print_help()
        parser.exit()
    values = vars(given)
    flags = [f"--{flag}={values.pop(flag)}" for flag in ("context", "kubeconfig") if flag in values]
    if (user := values.pop("as_user", None)) is not None:
        flags.append(f"--as={user}")
    if "files" in values:
        values["files"] = tuple(values["files"])
    options = Options(kubectl=tuple(flags), **values)
    if options.command == "timeout":
        none = {options.offload, options.exit, options.release} == {None}
        if none and not options.clear:
            parser.error("timeout needs SECONDS, --exit or --release, or --clear")
        if options.clear and (not none or options.model or options.lasts is not None):
            parser.error("--clear removes the whole override and stands alone")
    if options.format in FILES and not options.folder:
        parser.error(f"--format {options.format} is a file: say by --output DIR where it goes")
    if options.watch and options.output != "table":
        parser.error("-w follows as a table; -o json and yaml print once")
    return options


def _refuse_empty(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """End the process where a word is empty, as a script has it of a variable that isn't set: as a document it would be
    the current folder."""
    if any(not word or re.fullmatch("--[a-z-]+=", word) for word in arguments):
        parser.error("a word of the command line is empty")


def _parser() -> argparse.ArgumentParser:
    parser = parser_class()(
        prog="kubectl ocr",
        description="Look at OCR models on shared GPUs, and control them.",
        epilog=_STATUSES,
    )
    _common(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    made = {
        name: commands.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=f"examples:\n{_EXAMPLES[name]}",
        )
        for name, text in COMMANDS.items()
    }
    for each in made.values():
        _common(each)
    for name in ("status", "top"):
        made[name].add_argument("-A", "--all-namespaces", dest="everywhere", action="store_true")
    made["status"].add_argument("name", metavar="NAME", nargs="?", default="", help="one resource; else all")
    made["status"].add_argument(
        "-w", "--watch", action="store_true", help="draw changes as they happen, until Ctrl-C"
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
    for name in ("status", "top", "why", "doctor", "wake", "offload", "release", "timeout"):
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

    parser.add_argument(
        "--for",
        dest="lasts",
        type=_wait,
        metavar="SECONDS",
        help="by an override that ends after that: 900, 15m, 2h. It owns no field of the spec",
    )
    parser.add_argument("--clear", action="store_true", help="remove the override, whatever it says")


def _read(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files",
        metavar="DOCUMENT",
        nargs="+",
        help="PNG, JPEG, WEBP, TIFF, BMP, GIF or PDF; a folder of them; - for standard input",
    )
    parser.add_argument("--pages", default="", help="pages of each document: 1-3,7; without: all")
    parser.add_argument(
        "--task",
        choices=tasks.WORDS,
        default="",
        help="default: document, with --format text: free; with --find-term: find, with --prompt: freeform",
    )
    needs = {each.needs: f"--task {each.task} needs it" for each in tasks.TASKS}
    parser.add_argument("--find-term", default="", help=f"what to look for; {needs['find_term']}")
    parser.add_argument("--prompt", default="", help=f"your own prompt; {needs['custom_prompt']}")
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="markdown",
        help="json: boxes and all; pdf: a document that can be searched",
    )
    parser.add_argument(
        "--output",
        dest="folder",
        default="",
        metavar="DIR",
        help="write a file for each document there; without: print",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="read again what has a result in DIR that is younger than the document",
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
        raise argparse.ArgumentTypeError("the time must be more than 0")
    return seconds
