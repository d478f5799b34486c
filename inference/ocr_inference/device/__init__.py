"""The GPU: what it is, what it carries, and the accounting of its memory."""
