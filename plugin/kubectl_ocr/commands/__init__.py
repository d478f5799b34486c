"""What each command does: read by `cluster`, decide and draw by the pure modules, act through kubectl.

- `look`: `status`, `top` and `why`, which change nothing
- `doctor`: reads what its checks need, and fails where there is a problem
- `watch`: `status -w`
- `control`: `wake`, `offload` and `release`, of several pods at once
- `timeout`: patches idle timeouts and waits until all ready pods work by them
- `read`: sends pictures and documents to pods, prints or writes their texts
- `follow`: one document as a job of one pod
"""
