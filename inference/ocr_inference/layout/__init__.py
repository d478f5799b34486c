"""Lines with their places become blocks in the order in which people read them: by geometry alone, and pure.

`blocks.read` takes the lines of a page, whatever their direction, and returns titles, paragraphs and tables. All sizes
are in heights of the lines, so that a page's resolution changes nothing.

- `frame`: groups of lines of one direction, each seen upright.
- `skew`: the exact direction of lines that are short.
- `rows`: lines side by side.
- `bands`: parts of a page between which white space runs from top to bottom.
- `columns`: whether such parts are columns of text or the columns of a table.
- `tables`: rows and columns of a table, with empty and spanning cells.
- `blocks`: titles, paragraphs, tables, in reading order.
- `words`: what lines have as text: width in letters, numbers, sentences that go on.
- `quads`: places of lines as detection finds them, laid along the axis of the page.
- `pieces`: large pages in pieces, and their lines put together again.
- `markdown`: text as Markdown that shows the text again.
"""
