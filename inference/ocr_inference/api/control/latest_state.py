"""The latest state as bytes, for all clients that watch it over HTTP."""

from ocr_inference.protocol.latest import Latest


class LatestState(Latest[bytes]):
    """State as it is sent; empty at version 0, before the first one is published."""

    def __init__(self) -> None:
        super().__init__(b"")
        self.watchers = 0
        """Clients that watch at the moment."""
