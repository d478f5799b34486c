"""The server's own state, settings and controls: for the operator, probes and people.

- `state`: `GET /v1/state`, once or as a stream.
- `latest_state`: the latest state for all watchers.
- `telemetry`: usage of the whole GPU, in steps, for the state.
- `settings`: `PUT /v1/settings`.
- `controls`: the classic controls: load, offload, release, timeout, cleanup.
- `cleanup`: what a clean-up freed, in numbers and in words.
- `fields`: fields of a control, from its query and its body.
- `health`: probes, metrics and the compatible health document.
"""
