"""The classic OCR call.

- `ocr`: `POST /ocr`.
- `whole`: the answer of a document, made of those of its pages.
- `pdf`: `POST /ocr-pdf` and `POST /pdf-to-images`.
- `base64_json`: `POST /ocr-base64`.
"""
