"""Queue of commands for the owner task, and the answers to those that have a ticket."""

import asyncio
import itertools

from ocr_inference.scheduling.commands import Command
from ocr_inference.scheduling.state import Reason, Refusal
from ocr_inference.workers.pending import Reads

Answer = asyncio.Future[Reads | None]
"""What reads a lease's page; None for a request to offload or unload that is done."""


class Refused(Exception):
    """Refusal of a lease or of an offload, or the end of a lease by its deadline."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class Inbox:
    """Queue that any task posts to; only the owner task takes commands out, answers and refuses."""

    def __init__(self) -> None:
        self._commands: asyncio.Queue[Command] = asyncio.Queue()
        self._answers: dict[int, Answer] = {}
        self._tickets = itertools.count(1)
        self._closed = False

    def post(self, command: Command) -> None:
        self._commands.put_nowait(command)

    def ticket(self) -> tuple[int, Answer]:
        """Return a new ticket for a command, and its future answer: a result, or `Refused`. Cancelling the future only
        drops the answer; a waiter also has to post `Cancel`."""
        ticket = next(self._tickets)
        answer: Answer = asyncio.get_running_loop().create_future()
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        if self._closed:
            answer.set_exception(Refused(Refusal(Reason.DRAINING, "the server has shut down", 1.0)))
        else:
            self._answers[ticket] = answer
            answer.add_done_callback(lambda _: self._answers.pop(ticket, None))
        return ticket, answer

    # --- calls of the owner task ------------------------------------------------------------------------------

    async def get(self) -> Command:
        return await self._commands.get()

    def get_nowait(self) -> Command | None:
        """Return the next command, or None where there is none."""
        return None if self._commands.empty() else self._commands.get_nowait()

    def unanswered(self) -> tuple[int, ...]:
        return tuple(self._answers)

    def answer(self, ticket: int, worker: Reads | None = None) -> None:
        answer = self._answers.pop(ticket, None)
        if answer is not None and not answer.done():
            answer.set_result(worker)

    def refuse(self, ticket: int, refusal: Refusal) -> None:
        answer = self._answers.pop(ticket, None)
        if answer is not None and not answer.done():
            answer.set_exception(Refused(refusal))

    def close(self) -> None:
        """Refuse all tickets without an answer, and every one that is made from now on."""
        self._closed = True
        for ticket in self.unanswered():
            self.refuse(ticket, Refusal(Reason.DRAINING, "the server has shut down", 1.0))
