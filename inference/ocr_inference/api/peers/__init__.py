"""Pages that wait in one pod and are read by another one of the same resource.

- `exchange`: what the two say to each other.
- `client`: sends pages to pods that help.
- `routes`: `POST /v1/helpers`, which names a pod that helps, and `POST /v1/pages`, which reads for another pod.
"""
