"""`kubectl ocr` for krew, the package manager of kubectl's plugins. Docs: docs/kubectl-plugin.md.

- `build`: builds the archives, and the manifest that names them
- `launcher`: what krew links as `kubectl-ocr`
"""
