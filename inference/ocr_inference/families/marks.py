"""Marks in prompts that a model interprets: `<image>`, `<|grounding|>`, turns of a chat."""

import re


def without(pattern: re.Pattern[str], text: str) -> str:
    """Return the text without what matches, until nothing is left of it: removing a mark may join halves of another."""
    while pattern.search(text):
        text = pattern.sub("", text)
    return text
