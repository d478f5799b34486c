"""Worker processes: started, forked, on standby, called, ended.

In the server's process:

- `worker`: calls to one worker process, and its answers.
- `outbox`: calls on their way to a worker.
- `endings`: how calls to a worker fail, in words.
- `pending`: a call that has no answer yet.
- `limits`: how long a call may make no progress.
- `watchdog`: a timer that counts only the time in which this process runs.
- `log_lines`: lines of a worker's log, as many as are of use.
- `processes`: how processes are started, and what they inherit.
- `forkservers`: the forkserver of each engine, and workers that are forked from it.
- `forked`: one of those, and its end.
- `standby`: workers that are prepared for the next wake of models in deep idle.
- `progress`: how often the progress of a load is passed on.

In processes of their own:

- `worker_process`: one engine, driven by calls from the server.
- `call_reader`: the calls that it receives.
- `forkserver_process`: an engine's imports, done once; it forks workers.
- `failures`: what exceptions become, without secrets.
- `own_memory`: host memory of the process.
- `swap_file`: a file that has a process's memory while it waits.
- `two_calls`: how a file takes the place of memory with nothing in between.
- `memory_map`: which memory that can be.

Between them (the messages of a worker are in `protocol`):

- `fork_messages`: messages to and from a forkserver.
"""
