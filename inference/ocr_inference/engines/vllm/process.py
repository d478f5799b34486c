"""vLLM's server as a process that is supervised: started by a keeper, waited for, ended; what it wrote last."""

import contextlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Final

from ocr_inference.engines.vllm import command, keeper, leftovers, log_words
from ocr_inference.engines.vllm.command import Start
from ocr_inference.engines.vllm.log_words import Exit

log = logging.getLogger(__name__)

LAST_LINES: Final = 400
"""Lines of its log that are kept, to explain its end: a traceback of each of its processes."""
_MAX_LINE: Final = 2000
END_SECONDS: Final = keeper.GRACE_SECONDS + keeper.TRACKER_SECONDS + 3.0


def new_folder() -> Path:
    """Make a folder for a server's socket and temporary files, which no other user can enter."""
    return Path(tempfile.mkdtemp(prefix=leftovers.FOLDER))


class ServerProcess:
    """Running server, with all that it starts."""

    def __init__(self, start: Start, environ: Mapping[str, str], on_line: Callable[[str], None]) -> None:
        """Start it; raises `OSError` where the system refuses. `on_line` is called by a thread, with each line of its
        log."""
        self._on_line = on_line
        self._lines: deque[str] = deque(maxlen=LAST_LINES)
        self._said = self._outlived = 0
        """Lines that it wrote, and those of them, from the first one on, that can't be of its end."""
        self._folder = start.folder
        self._ours, theirs = socket.socketpair()
        with theirs:
            try:
                start.cache.mkdir(parents=True, exist_ok=True)
                self._process = subprocess.Popen(
                    # Isolated: whatever is in the environment is for the server, and it needs no packages.
                    (
                        *(
                            sys.executable,
                            "-I",
                            "-S",
                            keeper.__file__,
                            str(theirs.fileno()),
                            str(start.folder),
                        ),
                        *command.command(start),
                    ),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    pass_fds=(theirs.fileno(),),
                    cwd=start.folder,
                    env=command.environment(start, environ),
                    # What ends the worker's whole group, or its terminal, must not end who cleans up after it.
                    start_new_session=True,
                )
            except OSError:
                self._ours.close()
                shutil.rmtree(start.folder, ignore_errors=True)
                raise
        assert self._process.stdout is not None
        self._reader = threading.Thread(
            target=self._read, args=(self._process.stdout,), name="vllm's log", daemon=True
        )
        self._reader.start()

    @property
    def socket_path(self) -> Path:
        return self._folder / command.SOCKET

    @property
    def pid(self) -> int:
        """Process id of the keeper, of which all others descend."""
        return self._process.pid

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def wait(self, seconds: float) -> bool:
        """Wait for its end, at most that long; return whether it has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self.has_ended()

    def pids(self) -> list[int]:
        """Return the server's processes."""
        return list(keeper.descendants(self._process.pid))

    def outlives(self) -> Callable[[], None]:
        """Return what is called where a page that is sent now has ended well: the server has outlived whatever it had
        written before the page, so none of that explains its end."""
        said = self._said

        def ended_well() -> None:
            self._outlived = max(self._outlived, said)

        return ended_well

    def end(self) -> Exit:
        """End it where it runs, in its own way if that is soon, and wait for that. Requests must be closed before: it
        waits for its clients."""
        with contextlib.suppress(OSError):
            self._ours.send(keeper.STOP)
        return self._ended()

    def kill(self) -> Exit:
        """Kill it where it runs, and wait for its end."""
        self._ours.shutdown(socket.SHUT_RDWR)
        return self._ended()

    def _ended(self) -> Exit:
        try:
            code = self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            # One of its processes is in a system call that can't be interrupted; what can be killed has been.
            os.kill(self._process.pid, signal.SIGKILL)
            code = self._process.wait()
        # A process that lives on has the other end of the log.
        self._reader.join(1.0)
        self._ours.close()
        lines = tuple(self._lines)
        return Exit(
            code if code >= 0 else 128 - code, lines[max(0, self._outlived - self._said + len(lines)) :]
        )

    def _read(self, stream: IO[bytes]) -> None:
        with stream:
            while data := stream.readline(_MAX_LINE):
                line = log_words.without_prefix(data.decode("utf-8", "replace").rstrip())
                self._lines.append(line)
                self._said += 1
                self._on_line(line)
