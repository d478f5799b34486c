"""Objects of the cluster as frozen data, ours and those of Kubernetes; and which live settings win.

- `spec`: OcrDeployment.
- `policies`: OcrIdlePolicy.
- `windows`: its weekly windows.
- `observed`: pods, nodes, namespaces and roll-outs, as the API server has them.
- `effective`: which live setting wins.
- `live_settings`: their values, revision and envelope.
"""
