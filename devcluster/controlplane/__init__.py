"""The command lines, files and credentials of etcd, the API server, the controllers and the scheduler."""
