"""`kubectl ocr`: what the operator knows, and its controls, from a terminal. Docs: docs/kubectl-plugin.md.

- `__main__`: the program: words to a command, a failure to an exit status
- `completion`: `kubectl_complete-ocr`, which shells ask by way of kubectl
- `cli`: commands, options and help
- `commands`: what each command does
- `cluster`: resources, pods, nodes and Secrets, read and patched
- `podhttp`: calls to a pod's server through a port-forward, and its refusals
- `podjobs`: jobs of a pod: documents that it reads in the background
- `documents`: files that are read and written
- `pagetexts`: what was read, as it is printed and written
- `terminal`: the line on a terminal that says how far `read` is
- `output`: tables, JSON or YAML on standard output
- `kubectl`: the user's own kubectl, bounded, and its failures in words
- `views`: what `status`, `top` and `why` show
- `timeouts`: the patch of idle timeouts, and models that run by others
- `watching`: what a watch of the API says, and the objects as they are by then
- `overrides`: which manager declares a timeout, and the live override that is written instead
- `objects`: Kubernetes objects as kubectl prints them
- `text`: tables, colours, durations and sizes for terminals
- `errors`: failures and exit statuses

What crosses between programs of different versions is in `ocr_wire`. The plugin imports no other of our packages.
"""
