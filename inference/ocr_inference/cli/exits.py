"""Exit codes of all commands."""

import signal
from typing import Final

OK: Final = 0
FAILED: Final = 1
"""Nothing was done of what was requested."""
USAGE: Final = 2
"""The command line, the environment or a file of settings is wrong; argparse ends with it, too."""
PARTLY: Final = 3
"""Some of it was done: pages, documents."""
INTERRUPTED: Final = 128 + signal.SIGINT
TERMINATED: Final = 128 + signal.SIGTERM
PIPE_CLOSED: Final = 128 + signal.SIGPIPE
"""The program that read the output has ended, such as `head`."""
