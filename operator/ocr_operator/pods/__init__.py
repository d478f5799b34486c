"""The wire to inference pods: state up, live settings down.

- `client`: a stream and a pushing task for each pod.
- `wire`: the HTTP calls.
- `sse`: server-sent events.
- `unreachable`: what is known of a pod whose state can't be had.
"""
