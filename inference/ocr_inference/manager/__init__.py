"""The owner task of all models: commands in, a decision, its effects carried out; leases on models that are ready.

- `manager`: the owner task, and the calls that other tasks make to it.
- `inbox`: commands to the owner task, and answers to those that have a ticket.
- `calls`: life-cycle calls, carried out.
- `lease`: the right to use a ready model, and the reading of pages.
- `continuation`: answers in pieces, after the death of a worker in their midst.
- `page_history`: pages that were being read when a worker died.
- `counting`: what happens to models, counted.
- `clock`: times of the scheduler's clock, as the wall clock has them.
- `snapshot`: all models at one moment, for observers.
"""
