"""A process node: a small kubelet that runs the pods bound to it as local processes.

It registers a real Node in a real API server and needs neither containers nor root. What it leaves out on purpose is listed
in `devcluster.node.agent`.
"""
