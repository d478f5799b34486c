"""Vision-language models by transformers and torch, without remote code."""
