"""What a node decides, pure: values in, values out."""
