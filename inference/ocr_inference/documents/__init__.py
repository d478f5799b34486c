"""Bytes from outside become pages."""
