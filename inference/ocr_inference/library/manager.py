"""The manager of one model: a handle by which any thread or event loop uses it, on the GPU that managers share."""

import contextvars
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final, Literal, TypeVar, overload

from ocr_inference.library import status
from ocr_inference.library.calls import Slot
from ocr_inference.library.process_gpus import process_gpu
from ocr_inference.library.refusals import Closed
from ocr_inference.library.request import Request
from ocr_inference.library.shared_gpu import SharedGPU
from ocr_inference.library.sharing import Command, EndUse, Join, Open, Policy
from ocr_inference.scheduling.commands import Acquire, AdminRequest, Release
from ocr_inference.scheduling.lifecycle import Event
from ocr_wire.settings import MAX_SECONDS

M = TypeVar("M")

_LOADING: Final = -1
_TICKETS: contextvars.ContextVar[Mapping[object, int]] = contextvars.ContextVar(
    "tickets", default=MappingProxyType({})
)
"""The leases of the running code, by manager; `_LOADING` in its load function. The mappings are never changed."""


class GPUResourceManager:
    """Brings a model to the GPU when it is used, and takes it off when it is idle.

    All methods may be called from any thread; those that begin with `a` are coroutines for event loops. What the load
    function raises reaches the caller.
    """

    def __init__(
        self,
        idle_timeout: float | None = 60.0,
        *,
        load_func: Callable[[], Any] | None = None,
        priority: int = 0,
        release_timeout: float | None = None,
        size_bytes: int | None = None,
        modules: Callable[[Any], Sequence[Any]] | None = None,
        gpu: SharedGPU | None = None,
        device: str | None = None,
        name: str = "model",
    ) -> None:
        """Prepare; nothing is loaded yet.

        `idle_timeout` are the seconds without use after which the weights leave the GPU for host memory: 0 with the end
        of the last lease, None never. After `release_timeout` they leave host memory as well. A manager of higher
        `priority` takes the place of an idle model of a lower one. `size_bytes` is how much of the GPU the model needs,
        where that is known before it was loaded. `modules` returns what is to be moved of what was loaded, where the
        search for modules wouldn't find it. Without a `gpu`, the managers of a `device` share one in this process.
        """
        if gpu is not None and device is not None:
            raise ValueError("give a gpu or a device, not both: the gpu has its device")
        policy = Policy(
            priority, _checked("idle_timeout", idle_timeout), _checked("release_timeout", release_timeout)
        )
        self._gpu = process_gpu(device) if gpu is None else gpu
        self._key = object()
        slot = Slot(name, modules, None if load_func is None else self._marked(load_func))
        self._loadable = load_func is not None
        self._gpu.add(slot, policy, size_bytes)
        self._name = slot.name
        self._leave = weakref.finalize(self, self._gpu.leave, self._name)
        self._leave.atexit = False

    @property
    def name(self) -> str:
        """Name in messages and logs, of no other manager of the GPU."""
        return self._name

    @property
    def gpu(self) -> SharedGPU:
        return self._gpu

    @property
    def idle_timeout(self) -> float | None:
        return self._policy.idle_timeout

    @property
    def running(self) -> bool:
        """Whether timeouts run."""
        return self._policy.monitored

    @property
    def _policy(self) -> Policy:
        policy = self._gpu.state.policies.get(self._name)
        if policy is None:
            raise Closed(f"{self._name} is closed")
        return policy

    # --- using the model --------------------------------------------------------------------------------------

    @overload
    def lease(
        self, load_func: Callable[[], M], *, timeout: float | None = None
    ) -> AbstractContextManager[M]: ...
    @overload
    def lease(
        self, load_func: None = None, *, timeout: float | None = None
    ) -> AbstractContextManager[Any]: ...
    def lease(self, load_func: Callable[[], Any] | None = None, *, timeout: float | None = None) -> Any:
        """Use the model in a `with` block: it is on the GPU, and stays there until the block ends.

        The model is what `load_func` returned, the one given here or to the manager. Leases don't exclude each other. A
        block in a block is of the same lease. Raises what `load_func` raises, `NoRoom` where the budget is too small,
        and `TimeoutError` after `timeout` seconds without a place on the GPU.
        """
        return self._lease(load_func, timeout)

    @contextmanager
    def _lease(self, load_func: Callable[[], Any] | None, timeout: float | None) -> Iterator[Any]:
        request = self._acquire(load_func, timeout)
        with self._held(request.ticket, request.wait()) as model:
            yield model

    @asynccontextmanager
    async def alease(self, load_func: Callable[[], Any] | None = None) -> AsyncIterator[Any]:
        """Use the model in an `async with` block, as `lease` does; `asyncio.timeout` around it bounds the wait."""
        request = self._acquire(load_func, None)
        with self._held(request.ticket, await request.wait_async()) as model:
            yield model

    @overload
    def get_model(self, load_func: Callable[[], M], *, timeout: float | None = None) -> M: ...
    @overload
    def get_model(self, load_func: None = None, *, timeout: float | None = None) -> Any: ...
    def get_model(self, load_func: Callable[[], Any] | None = None, *, timeout: float | None = None) -> Any:
        """Return the model, on the GPU. It stays there until it wasn't asked for during the idle timeout, or until
        `force_offload`: when the caller is done isn't known, as it is of `lease`. Raises what `lease` raises."""
        return self._acquire(load_func, timeout, Open).wait()

    async def aget_model(self, load_func: Callable[[], Any] | None = None) -> Any:
        """Return the model, as `get_model` does."""
        return await self._acquire(load_func, None, Open).wait_async()

    def preheat(self, load_func: Callable[[], Any] | None = None, *, timeout: float | None = None) -> None:
        """Bring the model to the GPU before it is needed; returns when it is there. Its idle time begins then."""
        with self._lease(load_func, timeout):
            pass

    async def apreheat(self, load_func: Callable[[], Any] | None = None) -> None:
        """Bring the model to the GPU, as `preheat` does."""
        async with self.alease(load_func):
            pass

    # --- moving it away ---------------------------------------------------------------------------------------

    def force_offload(self, *, wait: bool = False) -> bool:
        """Take the model off the GPU; its weights stay in host memory. Ends the use of `get_model`, not that of leases:
        while there are some the model stays, and goes when the last one ends. Returns whether it is gone; with `wait`
        only when it is."""
        return bool(self._force(Event.OFFLOAD, wait=wait).wait())

    async def aforce_offload(self, *, wait: bool = False) -> bool:
        """Take the model off the GPU, as `force_offload` does."""
        return bool(await self._force(Event.OFFLOAD, wait=wait).wait_async())

    def force_release(self, *, wait: bool = False) -> bool:
        """Drop the model, from host memory too; otherwise as `force_offload`. The next use loads it again."""
        return bool(self._force(Event.UNLOAD, wait=wait).wait())

    async def aforce_release(self, *, wait: bool = False) -> bool:
        """Drop the model, as `force_release` does."""
        return bool(await self._force(Event.UNLOAD, wait=wait).wait_async())

    def close(self) -> None:
        """Release the model, when its leases have ended, and refuse every use from now on."""
        self._leave()

    # --- settings and state -----------------------------------------------------------------------------------

    def update_timeout(self, seconds: float | None) -> None:
        """Work by another idle timeout from now on; a timer that runs is set anew, from the last use."""
        checked = _checked("idle_timeout", seconds)
        self._apply(lambda policy: replace(policy, idle_timeout=checked))

    def update_release_timeout(self, seconds: float | None) -> None:
        """Work by another release timeout from now on."""
        checked = _checked("release_timeout", seconds)
        self._apply(lambda policy: replace(policy, release_timeout=checked))

    def update_priority(self, priority: int) -> None:
        """Work by another priority from now on."""
        self._apply(lambda policy: replace(policy, priority=priority))

    def start_monitor(self) -> None:
        """Have timeouts run, as they do from the start: needed after `stop_monitor` only."""
        self._apply(lambda policy: replace(policy, monitored=True))

    def stop_monitor(self) -> None:
        """Have no timeout run out until `start_monitor`."""
        self._apply(lambda policy: replace(policy, monitored=False))

    def get_status(self) -> status.Status:
        """Return where the model is and what it takes, at once, also while it is loaded."""
        return status.take(self._gpu, self._name)

    # --- parts ------------------------------------------------------------------------------------------------

    def _acquire(
        self,
        load_func: Callable[[], Any] | None,
        timeout: float | None,
        wrap: Callable[[Acquire], Command] = lambda acquire: acquire,
    ) -> Request:
        self._check_open()
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"timeout has to be 0 or more seconds, or None; got {timeout}")
        if load_func is None and not self._loadable:
            raise ValueError(f"{self._name} has no load function: give one here, or load_func to the manager")
        outer = _TICKETS.get().get(self._key)
        if outer == _LOADING:
            raise RuntimeError(f"the load function of {self._name} asks for the model that it loads")
        self._loadable = True
        deadline = float("inf") if timeout is None else self._gpu.now() + timeout

        def make(ticket: int) -> Command:
            acquire = Acquire(ticket, self._name, deadline)
            return wrap(acquire) if outer is None else Join(acquire, outer)

        prepare = None if load_func is None else self._loader(self._marked(load_func))
        return self._gpu.request(make, model=self._name, prepare=prepare)

    def _loader(self, load: Callable[[], Any]) -> Callable[[], None]:
        gpu, name = self._gpu, self._name

        def prepare() -> None:
            if (slot := gpu.slot(name)) is not None:
                slot.load = load

        return prepare

    def _marked(self, load_func: Callable[[], M]) -> Callable[[], M]:
        key = self._key

        def load() -> M:
            _TICKETS.set({key: _LOADING})  # a call has a thread of its own, and with it a context
            return load_func()

        return load

    @contextmanager
    def _held(self, ticket: int, model: M) -> Iterator[M]:
        token = _TICKETS.set({**_TICKETS.get(), self._key: ticket})
        try:
            yield model
        finally:
            self._gpu.post(Release(ticket))
            with suppress(ValueError):  # frameworks enter and leave blocks in different contexts
                _TICKETS.reset(token)

    def _force(self, event: Literal[Event.OFFLOAD, Event.UNLOAD], *, wait: bool) -> Request:
        self._check_open()
        self._gpu.post(EndUse(self._name))
        return self._gpu.request(lambda ticket: AdminRequest(ticket, self._name, event), waits=wait)

    def _apply(self, change: Callable[[Policy], Policy]) -> None:
        self._check_open()
        self._gpu.change(self._name, change)

    def _check_open(self) -> None:
        if not self._leave.alive:
            raise Closed(f"{self._name} is closed")


def _checked(what: str, seconds: float | None) -> float | None:
    """Return a timeout; raises `ValueError` for a number that is none."""
    if seconds is not None and not 0 <= seconds <= MAX_SECONDS:
        raise ValueError(f"{what} has to be 0 to {MAX_SECONDS} seconds, or None for never; got {seconds}")
    return seconds
