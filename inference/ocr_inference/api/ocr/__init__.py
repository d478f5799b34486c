"""The classic OCR call.

- `ocr`: `POST /ocr`.
"""
