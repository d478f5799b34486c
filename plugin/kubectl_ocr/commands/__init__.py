"""What each command does: read by `cluster`, decide and draw by the pure modules, act through kubectl."""
