"""Answers of MCP tools."""

import mcp_types


def words(result: mcp_types.CallToolResult) -> str:
    """Return what a model reads of an answer."""
    (content,) = result.content
    assert isinstance(content, mcp_types.TextContent)
    return content.text
