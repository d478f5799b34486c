"""The control loops: what causes a reconcile, one reconcile, and its writes."""
