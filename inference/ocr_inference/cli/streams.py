"""Standard streams that were closed when the program started, as daemons close them and `2>&-` does."""

import os
import sys
from typing import Final

_NAMES: Final = ("stdin", "stdout", "stderr")


def open_closed() -> None:
    """Open them at nothing: Python has None in their place, and the next file would get their number, where programs
    that are started take it for the stream."""
    for number, name in enumerate(_NAMES):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            os.dup2(opened, number)
            if opened != number:
                os.close(opened)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))
