"""What ends a command early: a sentence that names the thing and the way out, and an exit status."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit status of the program; docs/kubectl-plugin.md lists them."""

    FAILED = 1
    """Refused by the cluster or a pod, for a reason that the message tells."""
    USAGE = 2
    """The command line, a file or a value isn't right."""
    NOT_FOUND = 3
    """No such resource, pod or model, or no OcrDeployments in this cluster."""
    NOT_ALLOWED = 4
    """A permission is missing, or a token is wrong."""
    LATER = 5
    """Not now: unreachable, no pod is ready, busy, not in time. The same command may succeed later."""
    PARTIAL = 6
    """Some documents or pages couldn't be read, the others are."""
    NO_KUBECTL = 127


class Failure(Exception):
    """Error that ends the command; its `str` is printed."""

    def __init__(self, message: str, status: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.status = status
