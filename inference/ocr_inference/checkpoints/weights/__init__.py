"""Weights on their way from files to flat buffers: headers, layout, reading, weight images. No module here knows torch.

What comes from a checkpoint is hostile until `header` has looked at it.
"""
