"""What the API server asks of a node over HTTPS: logs and port forwarding."""
