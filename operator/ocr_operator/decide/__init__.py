"""All decisions, pure: values in, values out, time as an argument.

- `placement`: which GPU a pod gets.
- `routing`: which pods get requests (the awake set).
- `preemption`: whose idle model makes way.
- `status`: what the status and the Events say.
- `manifests`: what children look like.
- `deletion_cost`: which pods are ended first when there are to be fewer.
- `merge`: a partial pod template laid over one of them.
- `edits`: what others have set in them.
- `leases`: which process holds a Lease.
- `ownership`: which of several operators owns a namespace.
- `leadership`: which of an operator's replicas works.
- `rollouts`: whether a new pod comes before an old one goes.
- `waves`: which resources are next to roll out what the operator itself has changed.
- `plan`: which children are written or deleted.
"""
