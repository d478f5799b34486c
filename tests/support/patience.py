"""How long tests wait for what has to happen."""

from typing import Final

PATIENCE: Final = 100.0
"""Seconds. A test waits for a condition, and only one that never comes true costs this: on a machine that is busy with
ten other things, whatever takes a second takes twenty."""
