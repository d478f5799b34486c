"""What crosses between the server and a worker process, and the host memory that they share.

- `engine`: the interface of engines, and the messages to and from a worker.
- `frames`: answers of workers as bytes.
- `host_tier`: weights in host memory.
- `latest`: a value that one owner replaces and many follow.
- `memory_use`: memory of a worker, and what a clean-up freed of it.
- `page`: formats and bounds of pages, and places on one.
- `packets`: messages that travel whole, with descriptors beside them.
- `page_file`: a page's bytes, in memory that both have open.
"""
