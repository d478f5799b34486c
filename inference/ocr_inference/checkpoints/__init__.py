"""From a hub or a folder to verified weights in host memory.

- `sources`: checkpoints downloaded from a hub, or read from a folder.
- `weights`: tensors from files into one flat buffer.
"""
