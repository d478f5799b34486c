"""The operator: turns OcrDeployment resources into placed pods, and keeps their settings and status.

- `__main__`: the command; puts the parts together and ends them.
- `controllers`: what causes a pass, one pass, and its writes.
- `selftest`: a test of an installation from inside the cluster.
- `decide`: all decisions, pure.
- `gpuload`: what every GPU carries.
- `pods`: the wire to inference pods.
- `kube`: the API server.
- `resources`: objects of the cluster as frozen data; which live settings win.
- `settings`: the environment of the process.
- `metrics`: what the operator counts about itself.
- `probes`: the HTTP port of probes and metrics.
- `logs`: the format of log lines.
"""
