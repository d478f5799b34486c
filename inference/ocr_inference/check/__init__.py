"""`ocr-inference check`: whether a server with these settings would work here, found out without starting one.

- `command`: carries it out.
- `at_start`: the part of it that `serve` looks at, too.
- `machine`: reads the machine and what the settings name; takes nothing of a GPU.
- `models`: reads what the configured models need.
- `facts`: what was found, as the JSON document has it.
- `verdict`: what of it keeps a server from working; pure.
- `words`: the same for people.
- `server`: the same of a server that runs, through what stands before it.
"""
