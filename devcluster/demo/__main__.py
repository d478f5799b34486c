"""`python -m devcluster.demo [--engine transformers] [--keep]`."""

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import Final

import devcluster.demo
from devcluster.cluster import Cluster
from devcluster.demo.narrator import Narrator
from devcluster.demo.story import NODES, tell
from devcluster.errors import DevclusterError
from devcluster.progress import Progress
from devcluster.tools.toolbox import CONTROL_PLANE, HELM, KUBECTL, Toolbox, cache_folder

PROGRAMS: Final = (CONTROL_PLANE, HELM, KUBECTL)


def run(directory: Path, *, engine: str, keep: bool) -> None:
    """Run the demo. A cluster that isn't kept ends with this process, however that ends."""
    story = Narrator()
    story.say(
        "Starts a Kubernetes here, installs the operator, and shows in seven acts what it does: about a minute."
    )
    toolbox = Toolbox(os.environ, Progress(sys.stderr))
    if absent := toolbox.absent(*PROGRAMS):
        story.say(
            f"Before that, once, Kubernetes' programs come into {cache_folder(os.environ)}: {', '.join(absent)}.\n"
            "They are fetched as published (a minute or so), or built from source where that can't be (minutes):"
        )
    toolbox.provide(*PROGRAMS)
    story.step("A throwaway Kubernetes: real control plane, Helm-installed operator, simulated GPUs")
    begin = Cluster.up if keep else Cluster.start
    cluster = begin(directory, nodes=NODES, gpus=2, operator=True, say=lambda text: story.say(f"   {text}"))
    try:
        asyncio.run(tell(cluster, story, engine))
    finally:
        if keep:
            story.step("The cluster stays. Try")
            story.indent(
                f"export KUBECONFIG={cluster.kubeconfig}\nkubectl get ocr -w\n"
                "kubectl explain ocr.spec.idle\nmake cluster-down"
            )
        else:
            story.step("Clean up")
            cluster.stop()
            story.say("   Nothing is left: no process, no file.")


def main() -> int:
    parser = argparse.ArgumentParser(prog="devcluster.demo", description=devcluster.demo.__doc__)
    parser.add_argument(
        "--engine",
        choices=("rapidocr", "transformers"),
        default="rapidocr",
        help="transformers: a tiny checkpoint that the demo makes itself, with random weights",
    )
    parser.add_argument("--keep", action="store_true", help="leave the cluster running")
    parser.add_argument("--dir", type=Path, default=Path(".devcluster"), help="the cluster's folder")
    arguments = parser.parse_args()
    try:
        run(arguments.dir.resolve(), engine=arguments.engine, keep=arguments.keep)
    except (DevclusterError, ExceptionGroup) as error:
        cause = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
        sys.stderr.write(f"demo: {cause}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
