"""The commands of `python -m devcluster`."""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from devcluster.cluster import Cluster, down, running
from devcluster.errors import DevclusterError
from devcluster.machine import processes
from devcluster.machine.layout import Layout, State
from devcluster.progress import Progress, duration
from devcluster.tools.toolbox import CONTROL_PLANE, HELM, KUBECTL, Toolbox
from ocr_wire import numbers


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    root = argparse.ArgumentParser(
        prog="python -m devcluster", description="A throwaway Kubernetes, without containers or with them."
    )
    commands = root.add_subparsers(dest="command", required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument(
            "--dir",
            type=Path,
            default=Path(".devcluster"),
            help="the cluster's folder (default: .devcluster)",
        )
        return sub

    up = command("up", "Start a cluster, return when it is ready, and leave it running.")
    up.add_argument("--nodes", type=numbers.argument(0, 9999), help="nodes (default: 3; with containers 1)")
    up.add_argument(
        "--gpus",
        type=numbers.argument(0, 9999),
        help="simulated GPUs of each node (default: 2; with containers 0)",
    )
    up.add_argument(
        "--runtime",
        choices=("process", "containerd"),
        default="process",
        help="what a pod is: processes, or containers on one real node, for which this must be root",
    )
    up.add_argument(
        "--image",
        dest="images",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        help="archives of images (docker save) that the node with containers has",
    )
    up.add_argument("--no-operator", dest="operator", action="store_false", help="don't install the operator")
    up.add_argument(
        "--ipv6",
        action="store_true",
        help="pods of the last node have the address ::1, and need a toleration",
    )
    command("down", "End the cluster and remove its folder.")
    command("status", "Tell what runs.")
    logs = command("logs", "Print the log of a process, or list them.")
    logs.add_argument("name", nargs="?", help="etcd, kube-apiserver, …, gpu-a, supervisor")
    command("tools", "Find the control plane's programs, or fetch or build them.")
    return root


def sizes(arguments: argparse.Namespace) -> tuple[int, int]:
    """Return the numbers of nodes and of GPUs that `up` is asked for, or those that fit its runtime."""
    nodes, gpus = (1, 0) if arguments.runtime == "containerd" else (3, 2)
    return (
        nodes if arguments.nodes is None else arguments.nodes,
        gpus if arguments.gpus is None else arguments.gpus,
    )


def run(arguments: argparse.Namespace, output: TextIO) -> int:
    """Carry out one command and return the exit status."""
    directory: Path = arguments.dir.resolve()

    def say(text: str) -> None:
        print(text, file=output, flush=True)

    match arguments.command:
        case "up":
            began = time.monotonic()
            containers = arguments.runtime == "containerd"
            nodes, gpus = sizes(arguments)
            if arguments.images and not containers:
                raise DevclusterError("process nodes run no images: --image goes with --runtime containerd")
            operator = arguments.operator and nodes > 0
            cluster = Cluster.up(
                directory,
                nodes=nodes,
                gpus=gpus,
                operator=operator,
                ipv6=arguments.ipv6,
                containers=containers,
                images=arguments.images,
                say=say,
            )
            say(f"{cluster.url} is ready after {duration(time.monotonic() - began)}")
            say(f"export KUBECONFIG={cluster.kubeconfig}")
            return 0
        case "down":
            began = time.monotonic()
            ended = down(directory)
            say(f"Ended in {duration(time.monotonic() - began)}" if ended else f"No cluster in {directory}")
            return 0
        case "status":
            return _status(directory, output)
        case "logs":
            return _logs(Layout(directory), arguments.name, output)
        case _:
            toolbox = Toolbox(os.environ, Progress(sys.stderr))
            for name, path in toolbox.provide(CONTROL_PLANE, HELM, KUBECTL).items():
                say(f"{name:<24} {path}")
            return 0


def _status(directory: Path, output: TextIO) -> int:
    state = State.load(Layout(directory))
    if state is None:
        print(f"No cluster in {directory}", file=output)
        return 1
    alive = running(directory) is not None
    phase = state.phase if alive else "its supervisor was killed: run `down` or `up`"
    print(f"{'API server':<24} {state.url}  ({phase})", file=output)
    print(f"{'kubeconfig':<24} {Layout(directory).kubeconfig}", file=output)
    print(f"{'addresses':<24} {state.network}", file=output)
    rows = [
        ("supervisor", state.supervisor, None),
        *((one.name, one.identity, one.exit_code) for one in state.processes),
    ]
    for name, identity, code in rows:
        if processes.runs(identity):
            text = f"runs, process {identity.pid}"
        else:
            text = "ended" if code is None else f"ended with {code}"
            text += f": python -m devcluster logs {name}"
        print(f"{name:<24} {text}", file=output)
    if alive and Layout(directory).services.is_file():
        for service, addresses in json.loads(Layout(directory).services.read_bytes()).items():
            print(f"{'service ' + service:<24} {' '.join(addresses)}", file=output)
    return 0 if alive else 1


def _logs(layout: Layout, name: str | None, output: TextIO) -> int:
    known = sorted(path.stem for path in layout.log("x").parent.glob("*.log"))
    if name is None:
        print("\n".join(known), file=output)
        return 0
    if name not in known:
        raise DevclusterError(
            f"no log of {name!r} in {layout.directory}; there are: {', '.join(known) or 'none'}"
        )
    with layout.log(name).open(errors="replace") as log:
        shutil.copyfileobj(log, output)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; errors of the cluster are messages, Ctrl-C is the shell's 130."""
    arguments = parser().parse_args(argv)
    try:
        return run(arguments, sys.stdout)
    except DevclusterError as error:
        print(f"devcluster: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `logs … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("devcluster: interrupted, nothing is left running", file=sys.stderr)
        return 130
