"""The process that owns a cluster: it starts the parts in order, waits for each, and ends them all."""
