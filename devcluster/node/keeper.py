"""The node's keeper: waits until its standard input ends, however the node dies, then kills what the node ran."""

import sys

from devcluster.node.process import NODE_MARK, sweep


def main() -> None:
    """Wait for the end of the node, then sweep the root folder given as the only argument."""
    sys.stdin.buffer.read()
    sweep(NODE_MARK, sys.argv[1])


if __name__ == "__main__":
    main()
