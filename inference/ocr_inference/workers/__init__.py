"""Worker processes: started, forked, on standby, called, ended.

In the server's process:

- `worker`: calls to one worker process, and its answers.
- `processes`: how processes are started, and what they inherit.
- `forkservers`: the forkserver of each engine, and workers that are forked from it.
- `standby`: workers that are prepared for the next wake of models in deep idle.
- `progress`: how often the progress of a load is passed on.

In processes of their own:

- `worker_process`: one engine, driven by calls from the server.
- `forkserver_process`: an engine's imports, done once; it forks workers.

Between them (the messages of a worker are in `protocol`):

- `fork_messages`: messages to and from a forkserver.
"""
