"""Models of a program's own on a GPU only while they are used: the server's manager without the server.

`ocr_inference` has the names for programs; docs/library.md tells how they are used.

- `manager`: the manager of one model, a handle.
- `process_manager`: the manager that a process has once.
- `process_gpus`: the GPUs that a process has once.
- `status`: the state of a manager.
- `shared_gpu`: a GPU that managers share, and its owner thread.
- `request`: a command that waits for its answer.
- `refusals`: what callers that get no model meet.
- `calls`: life-cycle calls, carried out in threads.
- `moving`: what moves models, as the owner sees it.
- `sharing`: decides which model holds the GPU; pure.
"""
