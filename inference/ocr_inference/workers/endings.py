"""Failures of calls to workers, in words: the system kills a worker, the server does and says why, or it ends by
itself."""

import errno
import signal

from ocr_inference.protocol.engine import Failure, FailureKind


def death(name: str, code: int, killed_because: str | None) -> Failure:
    """Return the failure of what a worker was doing when it ended with this exit code; a negative one is the number of
    a signal. `killed_because`: why the server killed it, None where it didn't."""
    if code >= 0:
        how = f"exited with code {code}"
    elif code == -signal.SIGKILL and killed_because is not None:
        how = f"was killed by the server: {killed_because}"
    else:
        how = f"was killed by {_signal_name(-code)}"
        if code == -signal.SIGKILL:
            how += " (the system does that when memory runs out)"
    message = f"the worker of model {name} {how}"
    return Failure(kind=FailureKind.WORKER_DIED, message=message, exit_code=code)


def hung(name: str, why: str) -> Failure:
    """Return the failure of a call for which the server killed the worker."""
    return Failure(
        kind=FailureKind.TIMED_OUT, message=f"the worker of model {name} was killed by the server: {why}"
    )


def refused(error: OSError, model: str) -> Failure:
    """Return the failure of a page that the system refuses to hand over."""
    full = error.errno in (errno.EMFILE, errno.ENFILE, errno.ETOOMANYREFS)
    message = f"the page can't be handed to the worker of model {model}: {error.strerror}"
    return Failure(kind=FailureKind.OUT_OF_DESCRIPTORS if full else FailureKind.FAILED, message=message)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
