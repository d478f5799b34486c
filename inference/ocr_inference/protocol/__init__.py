"""What the server and a worker process say to each other, and the host memory that they share."""
