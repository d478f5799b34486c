"""The server's own state, settings and controls: for the operator, probes and people."""
