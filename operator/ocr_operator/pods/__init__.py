"""The wire to inference pods: state up, live settings down.

- `client`: a stream for each pod, and a pushing task while one runs with something else than it should.
- `link`: one of those pods.
- `wire`: the HTTP calls.
- `sse`: server-sent events.
- `idle_timeout`: for how long a stream may say nothing.
- `rate_limiter`: how often something may happen.
- `unreachable`: what is known of a pod whose state can't be had.
"""
