"""`python -m bench.uploader`: clients that send pages, as the one line of its standard input says.

Prints how many answers there were of each status, `none` where there was no answer.
"""

import base64
import json
import socket
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).parent.parent / "examples" / "invoice.png"
BOUNDARY: Final = "page"
ANSWER_SECONDS: Final = 300.0


@dataclass(frozen=True)
class Load:
    """What is sent: pages of `page_bytes` to a server at `port` by so many `clients`, for `seconds` or one each."""

    port: int
    clients: int
    page_bytes: int
    dialect: str
    """`form` or `chat`."""
    seconds: float = 0.0


def page(size: int) -> bytes:
    """A picture of `size` bytes that costs its reader next to nothing: what comes after a picture's end is ignored."""
    picture = PAGE.read_bytes()
    return picture + bytes(max(0, size - len(picture)))


def request(load: Load) -> bytes:
    picture = page(load.page_bytes)
    if load.dialect == "chat":
        url = b"data:image/png;base64," + base64.b64encode(picture)
        part = b'{"type": "image_url", "image_url": {"url": "' + url + b'"}}'
        body = b'{"messages": [{"role": "user", "content": [' + part + b"]}]}"
        path, kind = "/v1/chat/completions", "application/json"
    else:
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="page.png"\r\n\r\n'
        body = head.encode() + picture + f"\r\n--{BOUNDARY}--\r\n".encode()
        path, kind = "/ocr", f"multipart/form-data; boundary={BOUNDARY}"
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def client(load: Load, sent: bytes, statuses: Counter[str]) -> None:
    end, connection = time.monotonic() + load.seconds, None
    while True:
        if connection is None:
            connection = socket.create_connection(("127.0.0.1", load.port), timeout=ANSWER_SECONDS)
        status, keep = exchange(connection, sent)
        statuses[status] += 1
        if not keep:
            connection.close()
            connection = None
        if time.monotonic() >= end:
            break
    if connection is not None:
        connection.close()


def exchange(connection: socket.socket, sent: bytes) -> tuple[str, bool]:
    """The answer's status, and whether the connection can be used again."""
    whole = True
    try:
        connection.sendall(sent)
    except OSError:
        whole = False  # refused before its end; the answer may still be there
    try:
        answer = b""
        while b"\r\n\r\n" not in answer:
            if not (more := connection.recv(65536)):
                return "none", False
            answer += more
        head, _, body = answer.partition(b"\r\n\r\n")
        length = next(
            int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
        )
        while len(body) < length:
            body += connection.recv(65536)
    except OSError:
        return "none", False
    return head.split()[1].decode(), whole and b"connection: close" not in head.lower()


def run(load: Load) -> Counter[str]:
    statuses: Counter[str] = Counter()
    sent = request(load)
    clients = [threading.Thread(target=client, args=(load, sent, statuses)) for _ in range(load.clients)]
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    return statuses


def main() -> None:
    load = Load(**json.loads(sys.stdin.readline()))
    if load.clients:
        statuses = run(load)
    else:
        time.sleep(load.seconds)
        statuses = Counter()
    print(json.dumps(statuses))


if __name__ == "__main__":
    main()
