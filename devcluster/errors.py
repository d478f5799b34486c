"""What can go wrong with a throwaway cluster, as the user reads it: each message names the thing and the way out."""


class DevclusterError(Exception):
    """Base of all errors that end a command with a message instead of a traceback."""


class ControlPlaneUnavailable(DevclusterError):
    """Error of programs that are neither installed nor can be built here; `str()` is the reason."""


class StartFailed(DevclusterError):
    """Error of a part of the cluster that ended or stayed unready; the message carries the last lines of its log."""
