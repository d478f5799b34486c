"""Connections of clients: how many there are, for how long, and which ones end first.

- `limits`: how many there may be, by the files that the process may open.
- `files`: how many files that are.
- `arrivals`: in which order they are taken; pure.
- `phases`: what a connection does, and which one ends when; pure.
- `connection`: one connection, in aiohttp's protocol.
- `owner`: accepts them and ends them.
- `turns`: work on the loop that grows with what clients send, done in turns.
- `resets`: clients that leave while they are answered.
- `listening`: the socket that they arrive at.
"""
