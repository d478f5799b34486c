"""The manager that a process has once, for programs that ask for it wherever they need it."""

from typing import Any, Final

from ocr_inference.library.manager import GPUResourceManager

_MANAGERS: Final[dict[str, GPUResourceManager]] = {}


def get_gpu_manager(
    idle_timeout: float | None = 60.0, *, name: str = "model", **options: Any
) -> GPUResourceManager:
    """Return this process's manager of a name; made by the first call, whose arguments count.

    Later ones don't change it: a program that asks for it in each request would undo `update_timeout`. `options` are
    those of `GPUResourceManager`.
    """
    return _MANAGERS.get(name) or _MANAGERS.setdefault(
        name, GPUResourceManager(idle_timeout, name=name, **options)
    )
