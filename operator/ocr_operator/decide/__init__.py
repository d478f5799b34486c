"""All decisions, pure: children, placement, routing (the awake set), preemption, status."""
