"""The GPU: which one is served on, what is used of it, and the accounting of its memory.

- `gpu`: types of devices and GPUs, and the simulated GPUs.
- `nvml`: real GPUs, read through NVIDIA's management library.
- `visible`: what variables say of the GPUs that are here; pure.
- `least_used`: which of several GPUs is the least used; pure.
- `choosing`: which device this process serves on.
- `gpu_usage`: memory and utilisation of whole GPUs.
- `gpu_exporter`: the same as metrics in the words of NVIDIA's DCGM exporter.
- `memory_accounting`: what our models hold of the device, what other processes hold, and reservations for loads.
"""
