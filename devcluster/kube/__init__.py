"""The API server as devcluster sees it: one client, and the parts of objects that are read."""
