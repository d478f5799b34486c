"""What crosses between the server and a worker process, and the host memory that they share.

- `engine`: the interface of engines, and the messages to and from a worker.
- `frames`: messages as bytes.
- `host_tier`: weights in host memory.
- `latest`: a value that one owner replaces and many follow.
- `page`: formats and bounds of pages, and places on one.
"""
