"""A kubectl of a test: a small program that answers with files."""

import json
import stat
from pathlib import Path

from kubectl_ocr.cluster import Cluster
from kubectl_ocr.kubectl import Kubectl

SCRIPT = """#!/bin/sh
cd "$(dirname "$0")"
echo "$*" >>calls
for file in "$1 $2 $3" "$1 $2" "$1"; do
  file=$(echo "$file" | tr / %)
  if [ -e "$file.out" ] || [ -e "$file.err" ]; then
    [ -e "$file.stay" ] && exec tail -n +1 -f "$file.out"
    cat "$file.err" >&2 2>/dev/null
    cat "$file.out" 2>/dev/null
    [ ! -s "$file.err" ]; exit
  fi
done
echo "nothing is known of $*" >&2
exit 1
"""


class Fake:
    """A kubectl that answers with files: the first two or three words of a call, and `.out`, `.err` or `.stay`, which
    goes on with what is added to `.out`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = folder / "kubectl"
        self.program.write_text(SCRIPT)
        self.program.chmod(self.program.stat().st_mode | stat.S_IXUSR)

    def answers(self, call: str, out: object = "", err: str = "", *, stays: bool = False) -> None:
        call = call.replace("/", "%")
        (self.folder / f"{call}.out").write_text(out if isinstance(out, str) else json.dumps(out))
        (self.folder / f"{call}.err").write_text(err)
        (self.folder / f"{call}.stay").unlink(missing_ok=True)
        if stays:
            (self.folder / f"{call}.stay").touch()

    def adds(self, call: str, more: str) -> None:
        """Go on with the answer to a call that stays."""
        with (self.folder / f"{call.replace('/', '%')}.out").open("a") as opened:
            opened.write(more)

    def calls(self) -> str:
        return (self.folder / "calls").read_text()

    @property
    def cluster(self) -> Cluster:
        return Cluster(Kubectl(str(self.program)))
