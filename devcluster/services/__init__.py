"""Services lead to pods: the stand-in for kube-proxy and the endpoints controllers."""
