"""The control loops: what causes a pass, one pass, and its writes.

- `handlers`: kopf's watch of resources.
- `cluster_state`: what is known of the cluster; every change enqueues a key.
- `workqueue`: one pass at a time for each key, failed ones again.
- `controller`: the parts put together.
- `reconcile`: one pass over a resource, step by step.
- `context`: what passes act with and remember.
- `placing`: the step that places pods.
- `claims`: their ResourceClaims.
- `children`: Deployment, Services, Secret.
- `reports`: the write of a status and its Events.
- `recorder`: Events, once each and within a budget.
- `policies`: passes over OcrIdlePolicies.
- `preemption`: asks idle models to make way.
"""
