"""A real node: kubelet and containerd as processes of the cluster, pods in containers with a network of their own.

- `configuration`: files and command lines of containerd, CNI and kubelet, pure.
- `requirements`: whether this machine can run one, and why not.
- `images`: archives of images go into containerd; the sandbox's image is made here.
- `host`: what a node takes of this machine outside of its processes, and how all of it is given back.
"""
