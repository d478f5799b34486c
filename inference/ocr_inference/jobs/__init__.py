"""Long documents, read page by page beside other requests.

- `job`: a job as a value, and how fast it goes on.
- `table`: decides which page is begun next, and which results are kept.
- `share`: decides how many pages are read at a time.
- `again`: decides whether a page is tried again.
- `work`: what a job is about, and what is kept of it.
- `owner`: the owner of all jobs.
- `making`: makes it for a server.
"""
