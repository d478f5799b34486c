"""What was read, as files to be kept, and pictures of pages.

- `names`: names of files that are downloaded.
- `making`: files made of pages' results, and sent.
- `routes`: `POST /v1/exports`.
- `pictures`: pages as pictures, of jobs and of kept files, and how many those have.
"""
