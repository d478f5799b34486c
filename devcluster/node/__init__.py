"""A process node: a small kubelet that runs the pods bound to it as local processes.

It registers a real Node in a real API server and needs neither containers nor root.
`devcluster.node.agent` lists what it leaves out on purpose.
"""
