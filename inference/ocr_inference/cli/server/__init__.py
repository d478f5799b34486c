"""A server that runs, as commands use it.

- `client`: its HTTP calls.
- `retrying`: which of them are tried again, and when; pure.
- `secret`: keys and tokens, from variables and files.
"""
