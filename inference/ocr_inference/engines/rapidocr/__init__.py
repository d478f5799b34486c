"""PP-OCR by rapidocr and onnxruntime, on the CPU, with the models that rapidocr's wheel carries: no downloads.

- `engine`: the engine: pages in, lines out, in reading order.
- `detection`: where a page has lines of text.
- `recognition`: what they say, and which way they run.
- `ink`: what of a page isn't blank.
"""
