"""Objects of the cluster as frozen data, ours and those of Kubernetes; and which live settings win.

- `spec`: OcrDeployment.
- `free_form`: bounds of the part of a resource that has no schema.
- `policies`: OcrIdlePolicy.
- `windows`: its weekly windows.
- `reading`: tolerant reading of raw JSON.
- `selectors`: label selectors.
- `demand`: what a pod asks of its node, as the scheduler counts it.
- `affinity`: which pods a pod must be near, apart from, or spread among.
- `tenant`: what is kept of each pod on a node.
- `observed`: pods, nodes, namespaces and roll-outs, as the API server has them.
- `sharing`: one object in the place of several that are equal.
- `pod_reader`: pods, with their equal parts shared.
- `live_override`: live settings that count for a while, from an annotation of the resource.
- `conditions`: numbers of resources by condition.
- `effective`: which live setting wins.
- `live_settings`: their values, revision and envelope.
"""
