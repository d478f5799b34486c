"""The wire to inference pods: state up, live settings down.

- `client`: a stream and a pushing task for each pod.
- `link`: one of those pods.
- `wire`: the HTTP calls.
- `sse`: server-sent events.
- `idle_timeout`: for how long a stream may say nothing.
- `rate_limiter`: how often something may happen.
- `unreachable`: what is known of a pod whose state can't be had.
"""
