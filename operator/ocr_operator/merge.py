"""How Kubernetes tells the items of a list apart, and how a partial manifest is laid over a whole one.

The table follows the merge keys of the Kubernetes API types (`patchMergeKey`, `listMapKey`). A list that
isn't in it is one value: it is replaced, and compared, as a whole.
"""
