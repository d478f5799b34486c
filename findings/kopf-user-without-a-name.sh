#!/usr/bin/env bash
# Guess: `kopf.operator(standalone=True)`, which has no peers to be told from, runs for any user id.
# What happens (kopf 1.45.2): it makes a name for itself all the same, of the user's and the machine's name. A user id
#   without an entry in /etc/passwd has none, and the operator ends with a KeyError before it has asked for anything.
# Why it matters here: containers run as a number, and OpenShift picks one for each namespace. Tests ran as users with a
#   name, and the operator ended in the first real container. So we pass an `identity`, and images set USER.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check kopf==1.45.2
cd "$folder"
env -u LOGNAME -u USER -u LNAME -u USERNAME "$folder/venv/bin/python" - <<'PYTHON'
import asyncio
import importlib.metadata
import logging
import os

import kopf

os.getuid = lambda: 4_000_000_001  # a user id that no machine has an entry for


async def outcome(**more):
    registry = kopf.OperatorRegistry()
    stop = asyncio.Event()
    stop.set()
    try:
        await asyncio.wait_for(kopf.operator(registry=registry, standalone=True, clusterwide=True, stop_flag=stop, **more), 30)
    except Exception as error:
        return type(error).__name__
    return "nothing"


logging.disable(logging.CRITICAL)
print("kopf", importlib.metadata.version("kopf"))
alone, named = asyncio.run(outcome()), asyncio.run(outcome(identity="me"))
print(f"it ends with {alone}; with an identity it comes as far as asking for credentials: {named}")
raise SystemExit("changed" if (alone, named) != ("KeyError", "LoginError") else 0)
PYTHON
