"""Bytes from outside become pages.

- `images`: format and size of a picture, by its header.
- `pdf`: pages of a PDF, rendered in a process of their own.
"""
