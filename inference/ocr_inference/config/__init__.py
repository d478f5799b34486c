"""Configuration of this process: from its environment, from its configuration FILE, and live.

- `settings`: the types of all three, and their merge.
- `environment`: settings of the process, from environment variables and the command line.
- `parsing`: the FILE, parsed strictly.
- `live_settings`: the owner of the live settings.
"""
