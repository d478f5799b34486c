"""Objects of the cluster as frozen data, ours and those of Kubernetes; and which live settings win."""
