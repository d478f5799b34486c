"""Commands: what each of them takes, and how it is carried out.

- `commands`: their options and help; pure.
- `arguments`: values of options.
- `exits`: exit codes.
- `streams`: standard streams that are closed.
- `stopping`: what a signal does to a command.
- `groups`: errors of task groups.
- `configuration`: what a command works by: FILE, or a model that is named.
- `named`: the model that a word names; pure.
- `serving`: a server, until a signal.
- `server`: a server that runs, as commands use it.
- `gpu`: the controls of such a server.
- `read`: documents, read here or by a server.
"""
