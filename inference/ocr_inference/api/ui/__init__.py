"""The web page.

- `page`: `GET /`, which serves `page.html`.
"""
