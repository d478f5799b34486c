"""Decides which model holds the GPU and which request may use it: values in, values out.

- `lifecycle`: the table of states, events and calls of one model.
- `state`: the scheduler's state, the commands that change it, and the effects that it answers with.
- `scheduler`: `decide`, which applies one command and then does what is due, in order.
- `transaction`: the state and effects of one decision while it is made.
- `waiters`: which requests may queue, and which waiters are refused.
- `memory_plan`: which models get device memory, and which give it up for them.
- `eviction`: the order in which ready models give up memory.
- `external_usage`: when the memory of other processes is read, and how long a model waits for it.
- `suspects`: which pages are suspected of killing workers.
- `outcomes`: how the end of a call or of a worker changes its model.
- `timers`: idle timers, preload, and the next time to decide.
"""
