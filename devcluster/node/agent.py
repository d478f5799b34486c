"""The node itself. (Under construction.)"""

import asyncio

from devcluster.node.settings import Settings


class Agent:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    async def run(self, stop: asyncio.Event) -> None:
        """Register, run pods until `stop` is set, then leave."""
        raise NotImplementedError
