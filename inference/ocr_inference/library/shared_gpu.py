"""A GPU that managers of one program share, and the thread that owns it.

One thread takes commands from the inbox, lets `sharing.decide` decide, and carries out the effects; calls of other
threads and of event loops post commands and wait for a future. There are no locks: every change is made in that thread,
and life-cycle calls (`calls`) report their end to it. The thread is a daemon. A forked child has no model of its
parent's: it begins with an owner of its own and loads anew.
"""

import atexit
import contextlib
import functools
import itertools
import logging
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

from ocr_inference.library import moving, refusals, sharing
from ocr_inference.library.calls import Calls, Slot
from ocr_inference.library.moving import Mover
from ocr_inference.library.request import Request
from ocr_inference.library.sharing import EndUse, Policy, Register, Remove, Sharing
from ocr_inference.scheduling import commands
from ocr_inference.scheduling.commands import AdminRequest, Release, Tick
from ocr_inference.scheduling.lifecycle import Event
from ocr_inference.scheduling.state import Done, Effect, Grant, Refusal, Reject, StartCall, WakeAt

log = logging.getLogger(__name__)

EXIT_SECONDS: Final = 5.0
"""Time for which the end of a program waits for a model that is moved. A copy is over then; a download is given up."""


@dataclass(frozen=True)
class _Posted:
    """Command on its way to the owner thread."""

    command: sharing.Command
    ticket: int = 0
    model: str = ""
    answer: Future[Any] | None = None
    prepare: Callable[[], None] | None = None
    """Called by the owner before it decides."""
    waits: bool = True
    """Whether the answer may take until leases have ended; else it says at once that they haven't."""


class SharedGPU:
    """A device with a budget that is shared by managers. Safe to use from any thread."""

    def __init__(
        self,
        device: str | None = None,
        *,
        budget_bytes: int | None = None,
        mover: Mover | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare a device: `cuda`, `cuda:1`, `cpu`, `simulated` (a second buffer in host memory that stands for a
        GPU); None is the first GPU, or the CPU where there is none. No thread is started and no CUDA context made yet.

        `budget_bytes` is what all models together may take of it; without it, idle models make way when memory runs
        out. `mover` replaces torch. Raises `ValueError`.
        """
        if budget_bytes is not None and budget_bytes <= 0:
            raise ValueError(f"budget_bytes has to be above 0, or None for no bound; got {budget_bytes}")
        self._mover = moving.torch_mover(device) if mover is None else mover
        self._budget_bytes = budget_bytes
        self._clock = clock
        self._tickets = itertools.count(1)
        self._slots: dict[str, Slot] = {}
        self._inherited: list[object] = []
        self._begin(sharing.initial(budget_bytes))
        atexit.register(_at_exit, weakref.ref(self))
        os.register_at_fork(after_in_child=functools.partial(_in_child, weakref.ref(self)))

    def _begin(self, state: Sharing) -> None:
        self._state = state
        self._inbox: queue.SimpleQueue[_Posted | None] = queue.SimpleQueue()
        self._answers: dict[int, _Posted] = {}
        self._leaving: dict[int, str] = {}
        self._calls = Calls(self._mover, self.post)
        self._starts = itertools.count()
        self._thread: threading.Thread | None = None
        self._stopped = False

    @property
    def device(self) -> str:
        """The device, as in `cuda:0`."""
        return self._mover.name

    @property
    def budget_bytes(self) -> int | None:
        return self._budget_bytes

    def close(self, timeout: float = EXIT_SECONDS) -> None:
        """End: requests that wait are refused, calls in flight are waited for. Models stay whole, where they are."""
        self.end(timeout)
        self._stopped = True
        self._refuse_all()

    def end(self, timeout: float) -> None:
        """End the owner thread, and leave requests as they are."""
        if self._thread is not None:
            self._inbox.put(None)
            self._thread.join(timeout)
            self._calls.join(timeout)

    # --- what managers use ------------------------------------------------------------------------------------

    @property
    def state(self) -> Sharing:
        """The state, as it was decided last; a value."""
        return self._state

    @property
    def mover(self) -> Mover:
        return self._mover

    def now(self) -> float:
        return self._clock()

    def slot(self, model: str) -> Slot | None:
        return self._slots.get(model)

    def add(self, slot: Slot, policy: Policy, size_bytes: int | None) -> None:
        """Add a model. Its name gets a number where another model has it."""

        def prepare() -> None:
            name, numbers = slot.name, itertools.count(2)
            while slot.name in self._slots:
                slot.name = f"{name}-{next(numbers)}"
            self._slots[slot.name] = slot
            self._decide(Register(slot.name, policy, size_bytes))

        self.request(lambda _: Tick(), prepare=prepare).wait()

    def change(self, model: str, change: Callable[[Policy], Policy]) -> None:
        """Change a model's policy; a model that is gone has none."""

        def prepare() -> None:
            if (policy := self._state.policies.get(model)) is not None:
                self._decide(Register(model, change(policy)))

        self.request(lambda _: Tick(), prepare=prepare).wait()

    def request(
        self,
        make: Callable[[int], sharing.Command],
        *,
        model: str = "",
        prepare: Callable[[], None] | None = None,
        waits: bool = True,
    ) -> Request:
        """Post the command that `make` makes of a new ticket."""
        ticket = next(self._tickets)
        answer: Future[Any] = Future()
        self._post(_Posted(make(ticket), ticket, model, answer, prepare, waits))
        return Request(ticket, answer, self.post)

    def post(self, command: sharing.Command) -> None:
        """Post a command that isn't answered. Safe to call while objects are collected."""
        self._post(_Posted(command))

    def leave(self, model: str) -> None:
        """Release a model and forget it, after its leases have ended."""
        ticket = next(self._tickets)

        def prepare() -> None:
            self._leaving[ticket] = model
            self._decide(EndUse(model))

        self._post(_Posted(AdminRequest(ticket, model, Event.UNLOAD), ticket, prepare=prepare))

    def _post(self, posted: _Posted) -> None:
        self._inbox.put(posted)
        if self._thread is None and next(self._starts) == 0:
            self._thread = threading.Thread(target=self._run, name=f"gpu {self.device}", daemon=True)
            self._thread.start()
        if self._stopped:
            self._refuse_all()

    # --- the owner thread -------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while (posted := self._next()) is not None:
                self._step(posted)
        except BaseException:
            log.exception("the owner of %s ended by a fault; its models stay where they are", self.device)
            self._stopped = True
            self._refuse_all()

    def _next(self) -> _Posted | None:
        """Return the next command, or a tick when something is due before one comes; None: stop."""
        at = sharing.next_time(self._state, self._clock())
        try:
            return self._inbox.get(timeout=None if at is None else max(0.0, at - self._clock()))
        except queue.Empty:
            return _Posted(Tick())

    def _step(self, posted: _Posted) -> None:
        if posted.prepare is not None:
            posted.prepare()
        if posted.answer is not None:
            self._answers[posted.ticket] = posted
        self._decide(posted.command)
        match posted.command:
            case AdminRequest(model=name):
                model = self._state.scheduler.models.get(name)
                if not posted.waits and model is not None and model.leases:
                    self._answer(posted.ticket, False)
            case commands.Acquire() | sharing.Open() | sharing.Join():
                pass
            case _:
                self._answer(posted.ticket, True)

    def _decide(self, command: sharing.Command) -> None:
        self._state, effects = sharing.decide(self._state, command, self._clock())
        for effect in effects:
            self._perform(effect)

    def _perform(self, effect: Effect) -> None:
        match effect:
            case StartCall():
                self._calls.start(self._slots[effect.model], effect)
            case Grant(ticket, model):
                resident = self._slots[model].resident
                assert resident is not None
                if not self._answer(ticket, resident.loaded):
                    self._decide(Release(ticket))
            case Reject(ticket, refusal):
                self._refuse(ticket, refusal)
            case Done(ticket):
                self._answer(ticket, True)
                if (name := self._leaving.pop(ticket, None)) is not None:
                    self._decide(Remove(name))
                    if name not in self._state.scheduler.models:
                        self._slots.pop(name, None)
            case WakeAt():
                pass  # `_next` asks for it
            case _:
                raise AssertionError(f"no command of a library leads to {effect}")

    def _answer(self, ticket: int, value: Any) -> bool:
        """Answer a request; return whether it still waited."""
        posted = self._answers.pop(ticket, None)
        if posted is None or posted.answer is None or not posted.answer.set_running_or_notify_cancel():
            return False
        posted.answer.set_result(value)
        return True

    def _refuse(self, ticket: int, refusal: Refusal) -> None:
        posted = self._answers.pop(ticket, None)
        if posted is None or posted.answer is None or not posted.answer.set_running_or_notify_cancel():
            return
        slot = self._slots.get(posted.model)
        posted.answer.set_exception(refusals.as_exception(refusal, None if slot is None else slot.error))

    def _refuse_all(self) -> None:
        """Refuse all that waits, after the owner has ended. Any thread may call it then."""
        waiting = list(self._answers.values())
        self._answers.clear()
        with contextlib.suppress(queue.Empty):
            while True:
                if (posted := self._inbox.get_nowait()) is not None:
                    waiting.append(posted)
        for each in waiting:
            if each.answer is not None and each.answer.set_running_or_notify_cancel():
                each.answer.set_exception(refusals.Closed(f"the owner of {self.device} has ended"))

    # --- processes --------------------------------------------------------------------------------------------

    def begin_in_child(self) -> None:
        """Begin anew in a forked process: without models, and with an owner thread of its own."""
        # Never freed here: memory of a GPU belongs to the parent, and freeing it would fail.
        self._inherited.append((self._slots, self._calls, self._answers))
        models = self._state.scheduler.models
        state = sharing.initial(self._budget_bytes)
        for name, policy in self._state.policies.items():
            size_bytes = models[name].need_bytes or None
            state, _ = sharing.decide(state, Register(name, policy, size_bytes), self._clock())
        self._slots = {name: Slot(name, slot.choose, slot.load) for name, slot in self._slots.items()}
        self._begin(state)


def _in_child(ref: "weakref.ref[SharedGPU]") -> None:
    if (gpu := ref()) is not None:
        gpu.begin_in_child()


def _at_exit(ref: "weakref.ref[SharedGPU]") -> None:
    """End the owner before the interpreter ends: a thread in torch's code would outlive it. The threads whose requests
    wait are daemons, which end silently."""
    if (gpu := ref()) is not None:
        gpu.end(EXIT_SECONDS)
