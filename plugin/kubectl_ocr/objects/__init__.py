"""Kubernetes objects as kubectl prints them (JSON), parsed into what the plugin looks at.

- `resource`: OcrDeployments.
- `pod`: pods.
- `cluster`: nodes, the operator's own objects, definitions, events.
- `part`: what all objects have.
- `reading`: objects from JSON.
- `sent`: what the operator wrote to a pod.

A cluster may hold other versions of the definition and annotations edited by hand: unknown fields are ignored, an
object that can't be read is reported by its name, and the others are shown.
"""
