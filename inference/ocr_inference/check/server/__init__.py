"""`ocr-inference check --server`: whether a server that runs is reached as it should be, through what stands before it.

- `command`: carries it out.
- `asking`: asks the server; changes nothing there.
- `facts`: what was found, as the JSON document has it.
- `verdict`: what of it is wrong; pure.
"""
