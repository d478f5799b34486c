"""The control loops: what causes a pass, one pass, and its writes.

- `handlers`: kopf's part: it starts, ends and logs in.
- `cluster_state`: what is known of the cluster; every change enqueues a key.
- `tenants`: what all pods take of their nodes.
- `accounting`: what pods are promised, and placement's index of it.
- `beginners`: placed pods that don't run yet, looked at again when another promise shows on their GPU.
- `workqueue`: one pass at a time for each key, failed ones again.
- `controller`: the parts put together.
- `reconcile`: one pass over a resource, step by step.
- `context`: what passes act with and remember.
- `awake`: the step that labels the pods that get requests.
- `deletion_costs`: says of pods which are ended first when there are to be fewer.
- `room`: whether a resource could have one pod more.
- `wave`: which resources have a place among the roll-outs that an upgrade leads to.
- `placing`: the step that places pods.
- `volumes`: from which nodes their volumes can be reached.
- `claims`: their ResourceClaims.
- `startups`: what kubelets say of pods that they can't prepare.
- `overrides`: live overrides that have ended are removed.
- `children`: Deployment, Services, Secret.
- `reports`: the write of a status and its Events.
- `recorder`: Events, once each and within a budget.
- `policies`: passes over OcrIdlePolicies.
- `leases`: the write of a Lease, which one of several can make.
- `election`: one working operator among its replicas.
- `ownership`: one operator for each namespace.
- `fence`: no write that a Lease doesn't allow anymore.
- `preemption`: asks idle models to make way.
"""
