"""Weights on their way from files to flat buffers. No module here knows torch.

What comes from a checkpoint is hostile until `header` has checked it.

- `header`: headers of safetensors files and indexes of shards, checked.
- `layout`: the place of each tensor in the flat buffer.
- `scatter`: which bytes of a file go where.
- `reading`: parallel reads into the flat buffer.
- `image`: converted weights, kept as a file.
- `pinning`: pinning the buffer for a device.
"""
