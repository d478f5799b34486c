"""OpenAI's dialect.

- `completions`: `POST /v1/chat/completions`.
- `chat`: what a request asks of a page.
- `answer`: how the answer is written.
- `models`: `GET /v1/models`.
"""
