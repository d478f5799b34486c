"""Dialect of Mistral's document OCR.

- `ocr`: `POST /v1/ocr`.
- `body`: what a request asks of a document.
- `answer`: how its pages are written.
- `files`: `/v1/files`: documents that are sent once and read by their id.
- `file_store`: these documents, and which of them are kept.
"""
