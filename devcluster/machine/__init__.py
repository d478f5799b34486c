"""What a cluster takes of this machine: a folder, processes, loopback addresses, and for a real node a bridge."""
