#!/usr/bin/env bash
# Guess: a 500 or 503 in a download is tried again, as the same library does with the HEAD request right before
#   (its default list is 408, 429, 500, 502, 503, 504), and as it does when the connection breaks.
# What happens (huggingface_hub 2.4.0): the request for a file's bytes has a list of its own, (408, 429). One 500 or 503
#   there ends the whole call with HfHubHTTPError. It also removes what had come when it answers the Range request by
#   which the library continues after a broken connection. A 429 in the same place is waited for.
# Why it matters here: the bytes come from object storage that answers 503 when it is busy ("slow down"), so a load of
#   many GB fails and begins anew on an answer that says "later". Our own download tries these again.
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
import socket
import tempfile
import threading

import huggingface_hub

CONTENT = os.urandom(1 << 20) * 24  # the library writes in steps of 10 MB
DIGEST = hashlib.sha256(CONTENT).hexdigest()
CUT = 12 << 20
head, get = [], []  # what the next requests are answered instead: a status, or "cut"
answered = []


class Hub(http.server.BaseHTTPRequestHandler):
    def respond(self, faults):
        fault = faults.pop(0) if faults else None
        asked = self.headers.get("Range")
        answered.append(f"{self.command}{' with Range' if asked else ''} {fault or 'ok'}")
        if isinstance(fault, int):
            self.send_response(fault)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        begin = int((asked or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(CONTENT) - begin))
        if asked:
            self.send_header("Content-Range", f"bytes {begin}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("ETag", f'"{DIGEST}"')
        self.send_header("X-Repo-Commit", "1" * 40)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(CONTENT[begin : CUT if fault else None])
        if fault:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

    def do_HEAD(self):
        self.respond(head)

    def do_GET(self):
        self.respond(get)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
URL = f"http://127.0.0.1:{server.server_port}"

huggingface_hub.logging.set_verbosity_error()
print("huggingface_hub", importlib.metadata.version("huggingface_hub"))
failed = []


def download(what, expected, *, head=(), get=()):
    globals()["head"][:], globals()["get"][:] = head, get
    answered.clear()
    with tempfile.TemporaryDirectory() as cache:
        try:
            huggingface_hub.hf_hub_download("owner/name", "model.safetensors", endpoint=URL, cache_dir=cache)
            found = "ok"
        except Exception as error:
            found = type(error).__name__
        blobs = pathlib.Path(cache, "models--owner--name", "blobs")
        left = sum(each.stat().st_size for each in blobs.glob("*")) >> 20
    print(f"{what}: {found}, {left} MiB kept; answers: {', '.join(answered)}")
    if (found, left) != expected:
        failed.append(what)


good, bad = ("ok", 24), ("HfHubHTTPError", 0)
download("503 to HEAD", good, head=[503])
download("429 for the bytes", good, get=[429])
download("connection broken", good, get=["cut"])
download("503 for the bytes", bad, get=[503])
download("500 for the bytes", bad, get=[500])
download("connection broken, then 503", bad, get=["cut", 503])
raise SystemExit(f"changed: {failed}" if failed else 0)
PYTHON
