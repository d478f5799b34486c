"""`kubectl ocr`: what the operator knows, and its controls, from a terminal. Docs: docs/kubectl-plugin.md."""
