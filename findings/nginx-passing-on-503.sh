#!/usr/bin/env bash
# Guess: with `proxy_next_upstream … http_503 non_idempotent`, nginx asks the other server where one answers 503, and its
#   default `max_fails=1 fail_timeout=10s` only takes out a server that is broken.
# What happens (nginx 1.22.1): each 503 that is passed on counts as a failure of its server. Where both servers answer 503
#   to one path, both are out, and nginx answers 502 "no live upstreams" to every other path, which both would answer
#   with 200, until fail_timeout is over. Without the directive the same 503 counts for nothing; with `max_fails=0` it is
#   passed on and counts for nothing.
# Why it matters here: a server answers 503 while it goes down, where the other one should be asked, and also for one
#   model that can't be loaded, while its other models answer. examples/standalone/nginx.conf has max_fails=0.
# Needs nginx.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; wait 2>/dev/null; rm -rf "$folder"' EXIT
cd "$folder"
nginx -v
cat > server.py <<'PYTHON'
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(503 if self.path == "/absent" else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
PYTHON
python3 server.py 18091 &
python3 server.py 18092 &
for port in 18091 18092; do
    until curl --silent --output /dev/null "http://127.0.0.1:$port/"; do sleep 0.05; done
done
failed=0
try() {
    local fails=$1 next=$2 port=$3 expected=$4
    cat > nginx.conf <<CONF
$([ "$(id -u)" = 0 ] && echo "user root;")
worker_processes 1;
daemon off;
pid $port.pid;
error_log $port.log;
events {}
http {
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy;
    fastcgi_temp_path a; uwsgi_temp_path b; scgi_temp_path c;
    upstream two { zone two 64k; server 127.0.0.1:18091 $fails; server 127.0.0.1:18092 $fails; }
    server { listen 127.0.0.1:$port; location / { proxy_pass http://two; proxy_next_upstream $next; } }
}
CONF
    nginx -p "$folder" -c nginx.conf -e "$port.log" &
    local last=$!
    until curl --silent --output /dev/null "http://127.0.0.1:$port/"; do sleep 0.05; done
    local codes=""
    for path in present absent absent absent present present; do
        codes+="$(curl --silent --output /dev/null --write-out '%{http_code}' --data x "http://127.0.0.1:$port/$path") "
    done
    kill "$last"
    echo "$fails, proxy_next_upstream $next: $codes"
    [ "$codes" = "$expected " ] || failed=1
}
try "max_fails=1" "error http_503 non_idempotent" 18093 "200 503 502 502 502 502"
try "max_fails=0" "error http_503 non_idempotent" 18094 "200 503 503 503 200 200"
try "max_fails=1" "error" 18095 "200 503 503 503 200 200"
exit "$failed"
