"""From a hub or a folder to verified weights in host memory."""
