"""What can go wrong with a throwaway cluster, as the user reads it: each message names the thing and the way out."""


class DevclusterError(Exception):
    """Base of all errors that end a command with a message instead of a traceback."""


class ControlPlaneUnavailable(DevclusterError):
    """etcd and the Kubernetes programs are neither installed nor buildable here; `str()` is the reason."""


class StartFailed(DevclusterError):
    """A part of the cluster ended or stayed unready; the message carries the last lines of its log."""
