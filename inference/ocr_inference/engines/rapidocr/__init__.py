"""PP-OCR by rapidocr and onnxruntime, on the CPU, with the models that rapidocr's wheel carries: no downloads.

- `engine`: the engine: pages in, lines out, in reading order.
- `pages`: pages that are read at the same time.
- `detection`: where a page has lines of text.
- `recognition`: what they say, and which way they run.
- `texts`: what single lines say.
- `inputs`: pictures as the models take them.
- `ink`: what of a page isn't blank.
"""
