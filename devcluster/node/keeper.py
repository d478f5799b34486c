"""The node's keeper: waits until its standard input ends, however the node dies, then kills what the node ran."""

import sys

from devcluster.machine.layout import NODE_MARK
from devcluster.machine.processes import sweep


def main() -> None:
    """Wait for the end of the node, then sweep the root folder given as the only argument."""
    sys.stdin.buffer.read()
    sweep([f"{NODE_MARK}={sys.argv[1]}"])


if __name__ == "__main__":
    main()
