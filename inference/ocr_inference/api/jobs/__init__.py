"""Long documents, read in the background.

- `routes`: `POST /v1/jobs`, and what becomes of a job.
- `found`: jobs by their ids.
- `view`: a job as clients see it.
- `result`: the results of its pages.
"""
