"""What people and programs see of a cluster, by command: pure functions of what was read and of the time.

- `status`: resource → pods → GPUs → models, with what the idle timers do next
- `top`: the GPUs by node, the pods on them and what is resident
- `why`: why a pod is on its GPU, or why it waits
- `facts`: what `doctor` has read of a cluster
- `doctor`: whether the cluster has what OcrDeployments need
- `progress`: how far `read` is
- `turns`: why it gets requests, and why its models are where they are
"""
