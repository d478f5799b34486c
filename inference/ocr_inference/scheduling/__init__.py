"""Decides which model holds the GPU and which request may use it: values in, values out.

- `lifecycle`: the table of states, events and calls of one model.
- `state`: the scheduler's state, and the effects that it answers with.
- `commands`: what changes the state.
- `scheduler`: `decide`, which applies one command and then does what is due, in order.
- `transaction`: the state and effects of one decision while it is made.
- `waiter_queue`: the waiters of a model, by age, deadline and ticket.
- `sorted_tuples`: tuples in order, as a value that is cheap to change.
- `waiters`: which requests may queue, and which waiters are refused.
- `memory_plan`: which models get device memory, and which give it up for them.
- `eviction`: the order in which ready models give up memory.
- `external_usage`: when the memory of other processes is read, and how long a model waits for it.
- `stuck`: which leases are held for long, and when a worker that doesn't end makes the server unhealthy.
- `helpers`: which pages that wait are read by other pods.
- `suspects`: which pages are suspected of harming others.
- `attempts`: what follows from an attempt to read a page that failed.
- `memory_ladder`: what is tried for a page for which memory ran out.
- `outcomes`: how the end of a call or of a worker changes its model.
- `timers`: idle timers, preload, and the next time to decide.
"""
