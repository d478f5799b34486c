"""The Model Context Protocol (MCP): what a server can do, as tools of an assistant.

- `endpoint`: `POST /mcp`.
- `sent`: the body of a call, with its document in a file.
- `asgi`: an ASGI application as a handler of aiohttp.
- `sdk`: the official SDK, which speaks the protocol; the only module that imports it.
- `tools`: the tools: what they take and what they do.
"""
