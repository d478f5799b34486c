"""Asks the server of this container whether it serves: `python -m ocr_inference.healthcheck`.

Docker starts it every few seconds, so it imports nothing of the server. It asks what Kubernetes asks by its probes:
whether the process should go on, and whether it takes requests. Exit code 0 or 1; the answer's words are printed, which
`docker inspect` shows.
"""

import http.client
import os
import sys
from collections.abc import Mapping
from contextlib import closing
from typing import Final

SECONDS: Final = 4.0
"""Time for one answer: shorter than Docker's, so that the reason is printed."""
_PATHS: Final = ("/livez", "/readyz")
_LOOPBACK: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


def problem(environ: Mapping[str, str]) -> str | None:
    """Return why the server isn't healthy; None if it is. `OCR_HOST` and `PORT` say where it listens."""
    host, port = environ.get("OCR_HOST") or "", environ.get("PORT") or "8001"
    host = _LOOPBACK.get(host, host)
    for path in _PATHS:
        try:
            with closing(http.client.HTTPConnection(host, int(port), timeout=SECONDS)) as connection:
                connection.request("GET", path)
                response = connection.getresponse()
                words = response.read(500).decode(errors="replace").strip()
        except (OSError, ValueError, http.client.HTTPException) as error:
            return f"http://{host}:{port}{path}: {error}"
        if response.status != http.client.OK:
            return f"http://{host}:{port}{path}: {response.status} {words}"
    return None


def main() -> None:
    found = problem(os.environ)
    print(found or "ok")
    sys.exit(0 if found is None else 1)


if __name__ == "__main__":
    main()
