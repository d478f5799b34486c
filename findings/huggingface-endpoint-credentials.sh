#!/usr/bin/env bash
# Guess: HF_TOKEN is what a hub gets. An endpoint with a user and a password in its address (HF_ENDPOINT, a mirror behind
#   basic authentication) is refused, or the token wins, since it is set for this purpose.
# What happens (huggingface_hub 2.4.0): the client below writes the address's user and password as `Authorization:
#   Basic …` over the header with the token. The hub never sees the token, and answers 401 for a private model.
# Why it matters here: a cluster that fetches through a mirror with a password gets 401 for a token that is right. The page
#   about sources says so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check huggingface_hub==2.4.0
cd "$folder"
export HF_HOME="$folder/home" HF_HUB_DISABLE_TELEMETRY=1 NO_PROXY=127.0.0.1
"$folder/venv/bin/python" - <<'PYTHON'
import http.server
import importlib.metadata
import os
import subprocess
import sys
import threading

got = []


class Hub(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        got.append((self.headers.get("Authorization") or "none").partition(" ")[0])
        self.send_response(401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


hub = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=hub.serve_forever, daemon=True).start()
program = "import huggingface_hub as h\ntry:\n    h.HfApi().model_info('owner/name')\nexcept Exception as e:\n    print(type(e).__name__)"
for address in (f"127.0.0.1:{hub.server_port}", f"mirror:secret@127.0.0.1:{hub.server_port}"):
    environ = {**os.environ, "HF_TOKEN": "hf_" + "a" * 34, "HF_ENDPOINT": f"http://{address}"}
    raised = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True)
    print(f"{'with' if '@' in address else 'without'} a password in the address: {got[-1]}, {raised.stdout.strip()}")
print("huggingface_hub", importlib.metadata.version("huggingface_hub"))
assert got == ["Bearer", "Basic"], got
PYTHON
