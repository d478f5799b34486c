"""Pods as local processes: each has an owner task, and each of its containers one."""
