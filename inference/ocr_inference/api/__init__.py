"""HTTP in, HTTP out: a folder for each dialect, and what they share.

- `ocr`: the classic OCR call.
- `openai`: OpenAI's dialect.
- `control`: state, settings and controls.
- `ui`: the web page.
- `pages`: reading of one page, as all dialects do it.
- `schema`: requests parsed from form fields, answers as types.
- `forms`: bodies read within bounds.
- `origins`: which browsers' requests are answered.
- `appkeys`: what handlers get from the application.
- `middleware`: steps around every request.
- `connection`: what a client sends that is no request.
- `faults`: exceptions as answers.
- `tokens`: API keys and the admin token.
- `sse`: server-sent events.
"""
