"""What was read of pages, as files: Markdown, plain text, JSON, Word and searchable PDF.

    for piece in plain.pieces(pages): ...   # text, piece by piece
    word.write(pages, out, title="contract")
    searchable.write(pages, sources, out)   # native code: only in a process of its own (`documents.exporting`)

Pages come one after the other and are forgotten when they are written. The same pages give the same bytes: no file has
a date or a random number in it.

- `kinds`: the formats, their media types and names of files.
- `page`: a page that was read.
- `blocks`: headings, paragraphs, lists and tables, as values.
- `markdown`: pages' Markdown, as it was written.
- `parsing`: a page's Markdown as blocks.
- `formulas`: formulas in Markdown, which are left as they were written.
- `tables`: tables of HTML, as models write them.
- `plain`: blocks as plain text.
- `characters`: characters that no file can hold, and those that run to the left.
- `word`: Word documents.
- `cells`: tables of Word documents.
- `layer`: texts as an invisible layer over a page.
- `font`: the font of that layer, which has no shapes.
- `searchable`: PDFs with such a layer.
- `pictures`: pictures as pages of a PDF.
"""
