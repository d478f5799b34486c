#!/usr/bin/env bash
# Guess: a download that was killed is continued by the next process: the cache holds an `*.incomplete` file for that,
#   and within one process a broken connection is continued with a Range request.
# What happens (huggingface_hub 2.4.0): the partial file has a random part in its name (their pull request 4228), so the
#   next process can't find it and asks for byte 0 again. The old partial file stays beside the finished one, and each
#   further kill adds one. No later download removes them; `hf cache prune` does.
# Why it matters here: a pod that is killed in the middle of 30 GB (eviction, a start deadline) pays all of it again,
#   never gets done if one try is too short, and fills the volume of the cache with what it left. Our own download into
#   the same cache continues its partial file.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check huggingface_hub==2.4.0
cd "$folder"
export HF_HOME="$folder/home" HF_HUB_DISABLE_TELEMETRY=1 HF_HUB_DISABLE_PROGRESS_BARS=1 NO_PROXY=127.0.0.1
"$folder/venv/bin/python" - <<'PYTHON'
import hashlib
import http.server
import importlib.metadata
import os
import pathlib
import subprocess
import sys
import threading
import time

MIB = 1 << 20
CONTENT = os.urandom(MIB) * 32  # the library writes in steps of 10 MB
DIGEST = hashlib.sha256(CONTENT).hexdigest()
COMMIT = "1" * 40
BLOBS = pathlib.Path(os.environ["HF_HOME"], "hub", "models--owner--name", "blobs")
PROGRAM = "import huggingface_hub as h; print(h.hf_hub_download('owner/name', 'model.safetensors'))"
asked = []  # the Range header of each request for the file's bytes
slow = threading.Event()
slow.set()


class Hub(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        begin = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(CONTENT) - begin))
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{DIGEST}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        return begin

    def do_GET(self):
        asked.append(self.headers.get("Range"))
        begin = self.do_HEAD()
        if slow.is_set():
            self.wfile.write(CONTENT[begin : 16 * MIB])
            over.wait(120)
        else:
            self.wfile.write(CONTENT[begin:])

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """A client that was killed is no news."""


def kept():
    return sorted((each.name, each.stat().st_size) for each in BLOBS.glob("*"))


def show(when, files):
    print(f"kept {when}:", ", ".join(f"{name[:8]}…{name[64:]} {size // MIB} MiB" for name, size in files))


def kill_in_the_middle():
    known = {name for name, _ in kept()}
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment)
    deadline = time.monotonic() + 60
    while not any(size >= 10 * 1000 * 1000 for name, size in kept() if name not in known):
        if time.monotonic() > deadline or process.poll() is not None:
            raise SystemExit("the first part never came")
        time.sleep(0.05)
    process.kill()
    process.wait()


over = threading.Event()
server = Server(("127.0.0.1", 0), Hub)
threading.Thread(target=server.serve_forever, daemon=True).start()
environment = {**os.environ, "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}

print("huggingface_hub", importlib.metadata.version("huggingface_hub"))
kill_in_the_middle()
kill_in_the_middle()
partial = kept()
slow.clear()
over.set()
subprocess.run([sys.executable, "-c", PROGRAM], env=environment, check=True, stdout=subprocess.DEVNULL)
after = kept()
show("after two kills", partial)
print("Range headers of the three downloads:", asked)
show("after the success", after)
failed = []
if asked != [None, None, None]:
    failed.append("a download was continued")
if len(partial) != 2 or not all(name.endswith(".incomplete") for name, _ in partial):
    failed.append("the names of partial files")
if not set(partial) < set(after) or (DIGEST, len(CONTENT)) not in after:
    failed.append("what the success leaves")
command = [pathlib.Path(sys.executable).with_name("hf"), "cache", "prune", "--yes"]
subprocess.run(command, env=environment, check=True, capture_output=True)
show("after `hf cache prune`", kept())
if kept() != [(DIGEST, len(CONTENT))]:
    failed.append("what `hf cache prune` removes")
raise SystemExit(f"changed: {failed}" if failed else 0)
PYTHON
