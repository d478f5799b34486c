"""Decides which model holds the GPU and which request may use it: values in, values out."""
