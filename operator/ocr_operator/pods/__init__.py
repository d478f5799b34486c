"""The wire to inference pods: state up, live settings down.

- `client`: a stream and a pushing task for each pod.  `wire`: the HTTP calls.  `sse`: server-sent events.
- `podstate`: the state document of a pod, parsed and bounded.
"""
