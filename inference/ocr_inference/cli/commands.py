"""All commands: their options, and help that reads like a page; pure."""

import argparse
from collections.abc import Callable
from typing import Any, Final

from ocr_inference import __version__
from ocr_inference.cli import arguments
from ocr_inference.documents import page
from ocr_inference.documents.formats.kinds import Format
from ocr_wire import engines, numbers, tasks
from ocr_wire.arguments import parser_class

GPU_EXPORTER_PORT: Final = 9400
_PORT: Final = numbers.argument(0, 65_535)

_DESCRIPTION: Final = """\
Read documents with OCR models, on this machine or by a server; serve models
that are on the GPU only while pages come."""

_FIRST: Final = """\
first steps:
  ocr-inference read page.png                        print it as Markdown
  ocr-inference read scans/ --output text/           a folder, to be gone on with any time
  ocr-inference serve                                a server, with a page at http://localhost:8001
  ocr-inference serve --model deepseek-ai/DeepSeek-OCR
  ocr-inference check                                whether that would work here

Each command has a page of its own: ocr-inference read --help. More: docs/cli.md"""

_READ: Final = """\
Read documents and print them as Markdown, text or JSON, or write a file for each.

DOCUMENT is a picture, a PDF or a TIFF; a folder, which is read with all that is
in it but hidden files; a pattern in quotes, such as 'scans/**/*.pdf'; or - for
standard input. What they are is found by their content, not by their names.
Without --server a model is loaded here, once for all of them."""

_READ_MORE: Final = """\
examples:
  ocr-inference read page.png
  ocr-inference read contract.pdf --pages 1-3,7 --format text
  ocr-inference read scans/ --output text/           scans/2024/a.pdf -> text/2024/a.pdf.md
  ocr-inference read scans/ --output text/           again: only what is new or changed
  ocr-inference read 'scans/**/*.pdf' --format json | jq -r .document
  ocr-inference read fax.tiff --format pdf > fax.pdf
  ocr-inference read invoice.png --find total
  curl -s https://example.com/a.pdf | ocr-inference read -
  ocr-inference read scans/ --output text/ --server https://ocr.example.com --jobs 8

The API key of a server comes from OCR_API_KEY, or from --api-key-file.

exit codes:
  0    everything was read, or was before
  1    nothing could be read
  2    the command line, the environment or the configuration is wrong
  3    some pages or documents couldn't be read; the end of the output names each, with its reason
  130  Ctrl-C; 143 SIGTERM. The same command goes on where it was, with --output
  141  what read the output has ended, such as head"""

_SERVE: Final = """\
Serve models over HTTP: a web page, calls as of OpenAI and Mistral, jobs, MCP.

A model is loaded when the first page comes and leaves the GPU when it is idle.
Without --model and --config it is PP-OCR, which runs on any CPU."""

_SERVE_MORE: Final = """\
examples:
  ocr-inference serve
  ocr-inference serve --model deepseek-ai/DeepSeek-OCR --idle-timeout 5m
  ocr-inference serve --model ./DeepSeek-OCR --device cuda --host 127.0.0.1 --port 8080
  ocr-inference serve --config config.yaml           several models, limits, defaults

Files and variables for keys, folders and limits: docs/server-settings.md.

exit codes:
  0  it was stopped by Ctrl-C or SIGTERM, after the pages that were being read
  1  a fault of this program
  2  the command line, the environment or the configuration is wrong; the message names it"""

_GPU: Final = "See and control the models of a server that runs: where they are, and when they leave the GPU."

_GPU_MORE: Final = """\
examples:
  ocr-inference gpu status
  ocr-inference gpu status --server https://ocr.example.com -o json
  ocr-inference gpu load --model deepseek-ocr
  ocr-inference gpu offload                          all models, after the pages that are being read
  ocr-inference gpu timeout 5m

The admin token comes from OCR_ADMIN_TOKEN, or from --token-file.

exit codes:
  0    done
  1    the server refused, or can't be reached; the message says why
  2    the command line is wrong, or the token
  130  Ctrl-C"""

_GPU_COMMANDS: Final = {
    "status": "where each model is, and how long it stays there",
    "load": "wake a model, without a page",
    "offload": "move models from the GPU to host memory",
    "release": "drop models from the GPU and from host memory",
    "timeout": "set the idle time after which models leave the GPU",
}

_CHECK: Final = """\
Say whether serve would work on this machine with these settings, and why not:
driver, GPUs, libraries, models that fit, folders, port, files of tokens and
live settings. Nothing is started or downloaded.

With --server, say whether a server that runs is reached as it should be,
through the proxy before it: TLS, tokens, large uploads, streams."""

_CHECK_MORE: Final = """\
examples:
  ocr-inference check
  ocr-inference check --model deepseek-ai/DeepSeek-OCR
  ocr-inference check --config config.yaml --json
  ocr-inference check --server https://ocr.example.com
  ocr-inference check --server https://ocr.example.com --api-key-file key --read

exit codes:
  0  it works, perhaps with warnings
  1  there is a problem; each is a line
  2  the command line, the environment or the configuration can't be read"""

_MCP: Final = """\
Offer the tools of a server to an assistant on this machine (MCP), over standard
input and output. Without --url a server is started for it. docs/mcp.md"""

_MCP_MORE: Final = """\
examples:
  ocr-inference mcp
  ocr-inference mcp --url https://ocr.example.com --token-file key

exit codes: 0 the assistant has left; 1 a fault of this program; 2 wrong usage, or no such server"""

_EXPORTER: Final = """\
Export the load of all GPUs of this machine as NVIDIA's DCGM exporter does, for
clusters without it. docs/gpu-exporter.md"""

_EXPORTER_MORE: Final = "exit codes: 0 it was stopped; 1 a fault of this program; 2 wrong usage, or no driver"


def parser(redactor: Callable[[str], str]) -> argparse.ArgumentParser:
    """Return the parser of the command line. Errors end the process with 2 and are cleaned by `redactor`."""
    found = parser_class(redactor)(prog="ocr-inference", description=_DESCRIPTION, epilog=_FIRST)
    found.add_argument("--version", action="version", version=f"ocr-inference {__version__}")
    commands = found.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, short: str, description: str, epilog: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=short, description=description, epilog=epilog)

    _read(command("read", "read documents", _READ, _READ_MORE))
    _serve(command("serve", "serve models over HTTP", _SERVE, _SERVE_MORE))
    _gpu(command("gpu", "see and control the models of a server", _GPU, _GPU_MORE))
    _check(command("check", "say whether serve would work here, and why not", _CHECK, _CHECK_MORE))
    _mcp(command("mcp", "be the tools of an assistant (MCP)", _MCP, _MCP_MORE))
    exporter = command("gpu-exporter", "export the load of all GPUs", _EXPORTER, _EXPORTER_MORE)
    exporter.add_argument("--host", type=arguments.word, help="address to listen at (OCR_HOST; all)")
    exporter.add_argument(
        "--port", type=_PORT, default=GPU_EXPORTER_PORT, help="port to listen at (%(default)s)"
    )
    return found


def _read(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "documents", metavar="DOCUMENT", type=arguments.word, nargs="+", help="file, folder, 'pattern', or -"
    )

    what = parser.add_argument_group("what is read of a page")
    offered = [each for each in tasks.TASKS if not each.takes_prompt]
    meanings = {each.task.value: each.meaning.replace("`find_term`", "TERM") for each in offered}
    known = ", ".join(f"{word} ({meaning})" for word, meaning in meanings.items())
    what.add_argument(
        "--task",
        choices=list(meanings),
        metavar="TASK",
        help=f"{known}. Without: document, with --find: find",
    )
    what.add_argument("--find", metavar="TERM", type=arguments.word, help="where this term stands")
    what.add_argument("--pages", metavar="1-3,7", help="which pages of each document; without: all")
    what.add_argument(
        "--dpi",
        type=numbers.argument(page.MIN_DPI, page.MAX_DPI),
        default=page.DPI,
        help="resolution at which a PDF's pages are drawn (%(default)s)",
    )

    where = parser.add_argument_group("where results go")
    where.add_argument(
        "--format",
        choices=[each.value for each in Format],
        default=Format.MARKDOWN.value,
        metavar="FORMAT",
        help="markdown, text, json, docx (Word), pdf (pages that can be searched); without: markdown",
    )
    where.add_argument(
        "--output",
        metavar="DIR",
        type=arguments.word,
        help="write a file for each document there, in the same folders; without: print",
    )
    where.add_argument(
        "--force", action="store_true", help="read again what was read, and overwrite what is in the way"
    )
    where.add_argument("-q", "--quiet", action="store_true", help="say nothing but what fails")
    where.add_argument(
        "-v", "--verbose", action="store_true", help="a line for each page instead of progress"
    )

    by = parser.add_argument_group("what reads it")
    by.add_argument(
        "--model",
        metavar="NAME",
        type=arguments.word,
        help="as for serve; of FILE or of the server: one of its models",
    )
    by.add_argument("--config", metavar="FILE", type=arguments.word, help="as for serve")
    by.add_argument("--server", metavar="URL", type=arguments.server, help="a server that runs, by its jobs")
    by.add_argument(
        "--api-key-file", metavar="FILE", type=arguments.word, help="API key of that server; else OCR_API_KEY"
    )
    by.add_argument(
        "--jobs",
        metavar="N",
        type=numbers.argument(1, arguments.MOST_AT_A_TIME),
        default=2,
        help="documents at a time (%(default)s)",
    )


def _model(parser: argparse.ArgumentParser) -> None:
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--model", metavar="NAME", type=arguments.word, help="repository of a hub, folder, or pp-ocr"
    )
    either.add_argument(
        "--config", metavar="FILE", type=arguments.word, help="models, limits and defaults (YAML)"
    )
    parser.add_argument(
        "--engine", choices=list(engines.NAMES), metavar="ENGINE", help="of --model; without: what fits it"
    )
    parser.add_argument(
        "--device",
        choices=["auto", "cuda", "cpu", "simulated"],
        metavar="DEVICE",
        help="auto, cuda, cpu (OCR_DEVICE; auto: the GPU where there is one)",
    )
    parser.add_argument("--host", type=arguments.word, help="address to listen at (OCR_HOST; all)")
    parser.add_argument("--port", type=_PORT, help="port to listen at (PORT; 8001)")


def _serve(parser: argparse.ArgumentParser) -> None:
    _model(parser)
    parser.add_argument(
        "--idle-timeout",
        "--offload-after",
        dest="idle_timeout",
        metavar="TIME",
        type=arguments.idle_time,
        help="off the GPU after that long without a page: 300, 5m, 1h, 0, never (60)",
    )


def _check(parser: argparse.ArgumentParser) -> None:
    _model(parser)
    parser.add_argument("--json", action="store_true", help="as JSON (docs/check.md)")
    parser.add_argument("--server", metavar="URL", type=arguments.server, help="a server that runs")
    parser.add_argument("--read", action="store_true", help="read a small page there, which loads its model")
    parser.add_argument(
        "--api-key-file", metavar="FILE", type=arguments.word, help="API key of that server; else OCR_API_KEY"
    )


def _gpu(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="gpu_command", metavar="COMMAND", required=True)
    for name, short in _GPU_COMMANDS.items():
        each = commands.add_parser(
            name, help=short, description=f"{short[0].upper()}{short[1:]}.", epilog=_GPU_MORE
        )
        if name == "timeout":
            each.add_argument(
                "seconds", metavar="TIME", type=arguments.idle_time, help="300, 5m, 1h, 0 (at once), never"
            )
        if name != "status":
            of = "the first one" if name == "load" else "all"
            each.add_argument(
                "--model", metavar="NAME", type=arguments.word, help=f"this model; without: {of}"
            )
        if name in ("offload", "release"):
            each.add_argument(
                "--force", action="store_true", help="now; pages that are being read begin anew"
            )
        each.add_argument(
            "--server", metavar="URL", type=arguments.server, help="(OCR_SERVER; http://localhost:8001)"
        )
        each.add_argument(
            "--token-file", metavar="FILE", type=arguments.word, help="its admin token; else OCR_ADMIN_TOKEN"
        )
        each.add_argument("-o", "--output", choices=["table", "json"], default="table", help="(%(default)s)")


def _mcp(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", type=arguments.word, help="as for serve; without --url")
    parser.add_argument(
        "--url", type=arguments.word, help="a server that runs already; without: one is started here"
    )
    parser.add_argument(
        "--token-file", metavar="FILE", type=arguments.word, help="API key or admin token of that server"
    )


Given = Any
"""Parsed command line: `argparse.Namespace`."""
