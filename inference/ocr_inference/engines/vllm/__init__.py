"""Vision-language models by vLLM's server, which is supervised and never imported.

- `engine`: the engine: starts a server, gives it pages, ends it.
- `command`: how the server is started.
- `process`: the server as a process.
- `keeper`: a process that ends all of vLLM's, run by its file.
- `leftovers`: what is left where a keeper was killed.
- `log_words`: what the server's log means.
- `opening`: what has to be known of a checkpoint.
- `asking`: what is asked for a page.
- `answers`: what is streamed back.
- `client`: pages under way.
- `measuring`: memory of the server's processes.
"""
