"""A test of an installation from inside the cluster, as `helm test` runs it.

- `__main__`: makes a resource, reads a page, changes a timeout, and deletes the resource.
"""
