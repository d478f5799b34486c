"""HTTP in, HTTP out: a folder for each dialect, and what all of them share."""
