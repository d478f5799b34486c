"""What this process was told: by its environment, by its configuration FILE, and live; parsed strictly, then merged."""
