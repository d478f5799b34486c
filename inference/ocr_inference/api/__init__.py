"""HTTP in, HTTP out: a folder for each dialect (`ocr`, `openai`), `control` and `ui`, and what they share.

- `pages`: reading of one page, as all dialects do it.
- `schema`: requests parsed from form fields, answers as types.
- `forms`: bodies read within bounds.
- `appkeys`: what handlers get from the application.
- `middleware`: steps around every request.
- `faults`: exceptions as answers.
- `tokens`: API keys and the admin token.
- `sse`: server-sent events.
"""
