"""All decisions, pure: values in, values out, time as an argument.

- `placement`: which GPU a pod gets.
- `routing`: which pods get requests (the awake set).
- `preemption`: whose idle model makes way.
- `status`: what the status and the Events say.
- `manifests`: what children look like.
- `merge`: a partial pod template laid over one of them.
- `plan`: which children are written or deleted.
"""
