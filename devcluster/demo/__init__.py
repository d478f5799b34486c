"""The product's story on a throwaway Kubernetes.

All of it is real (API server, scheduler, Helm chart, operator, HTTP, OCR) but the GPUs: they are simulated, and
say so.
"""
