"""Weights on their way from files to flat buffers. No module here knows torch.

What comes from a checkpoint is hostile until `header` has checked it.

- `header`: headers of safetensors files and indexes of shards, checked.
- `layout`: the place of each tensor in the flat buffer.
- `scatter`: which bytes of a file go where.
- `reading`: parallel reads into the flat buffer.
- `image`: converted weights, kept as a file.
- `shared_image`: a host tier, kept as a file that all servers of a node map.
- `files`: files of a cache, whole or absent, verified once, and removed when they are old.
- `pinning`: pinning the buffer for a device.
"""
