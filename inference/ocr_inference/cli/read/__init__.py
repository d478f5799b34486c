"""`ocr-inference read`: documents to texts, here or by a server.

- `command`: carries it out.
- `asked`: what is requested of each document.
- `finding`: files, folders, patterns.
- `planning`: which of them are documents, and where results go; pure.
- `opening`: files and pipes.
- `run`: all documents of a plan, several at a time.
- `reading`: what was read of a document.
- `local`: reads by a model in this process.
- `remote`: reads by the jobs of a server.
- `rendering`: results as they are printed and written.
- `resuming`: what was read by an earlier run; pure.
- `outputs`: the folder of results.
- `notes`: what is noted of the results in it.
- `progress`: the line that says how far a run is; pure.
- `terminal`: what a person sees of a run.
- `summary`: outcomes, exit codes, the lines at the end; pure.
"""
