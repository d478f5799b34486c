"""The web page: modules, styles and texts that a browser loads as they are in `static/`; there is no build step.

- `about`: what `GET /` tells a program.
- `files`: those files, read once.
- `page`: `GET /`, which serves `index.html`; `GET /ui/…`, which serves the others.
"""
