"""`ocr-inference gpu`: where the models of a server are, and its controls.

- `command`: carries it out.
- `table`: the state as people read it; pure.
"""
