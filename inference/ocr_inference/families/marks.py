"""Marks in prompts that mean something to a model: `<image>`, `<|grounding|>`, turns of a chat."""

import re


def without(pattern: re.Pattern[str], text: str) -> str:
    """The text without what matches, until nothing is left of it: taking a mark out may join halves of another."""
    while pattern.search(text):
        text = pattern.sub("", text)
    return text
