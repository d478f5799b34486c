"""Torch models that other code made: found in what it returned, and moved between host and GPU.

- `finding`: the modules in what a load function returned.
- `immovable`: models whose weights can't be moved, and why.
- `flat`: such a model in one flat buffer.
- `resident`: what a load function returned, on the GPU or off it.
- `mover`: a device that such models are brought to.
"""
