"""What a cluster takes of this machine: a folder, processes, loopback addresses."""
