"""Bytes from outside become pages.

- `kinds`: what a file is, by its first bytes.
- `headers`: format and size of a picture, by its header.
- `counting`: which frames of a picture are pages.
- `images`: pictures from outside, refused by their headers.
- `selection`: which pages of a document are requested.
- `page`: a page of a document, or why there is none.
- `document`: documents of many pages, page by page.
- `places`: how many rendering processes there are.
- `restarting`: pages from a rendering process, or from the next one.
- `rendering`: the server's side of a rendering process.
- `messages`: what the two say to each other.
- `renderer`: the process that renders one document.
- `cropping`: parts of a page, cut out by a process of its own.
- `formats`: what was read, as files of several formats.
- `exporting`: the server's side of a process that makes such a file.
- `exporter`: the process that makes one file.
- `own_text`: text that pages of PDFs have already.
- `previews`: pictures of pages for people, drawn by a process of its own.
- `bounds`: bounds that such processes set for themselves.
- `pdf`: pages of a PDF, drawn by PDFium.
- `page_tree`: how many pages a PDF says that it has, where that is too few.
- `frames`: frames of a picture, decoded by Pillow.
- `pixels`: what a picture's pixels mean.
- `unfinished`: JPEG pictures without their end marker.
- `png`: rendered pages as PNG.
- `bitmap`: bitmaps that are drawn right into files in memory.
"""
