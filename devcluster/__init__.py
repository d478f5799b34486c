"""A Kubernetes for demos, tests and development: a real control plane, and nodes that run pods as local processes.

docs/devcluster.md names its rooms.
"""
