"""The OpenAPI document: what is declared beside each handler, put together.

- `operations`: declarations of calls.
- `document`: the document of all of them.
- `routes`: `GET /openapi.json`, and `GET /docs`, which shows it.
"""
