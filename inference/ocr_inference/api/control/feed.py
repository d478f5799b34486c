"""The newest state as bytes, for all who watch it over HTTP."""

from ocr_inference.protocol.latest import Newest


class Feed(Newest[bytes]):
    """Nothing has been published at version 0."""

    def __init__(self) -> None:
        super().__init__(b"")
        self.watchers = 0
        """Readers at the moment; counted by those who serve them."""
