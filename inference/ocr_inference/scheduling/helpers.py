"""Decides which pages that wait here are read by other pods.

A pod that joins the Service's endpoints gets what comes from then on; what waits already is in the queue of another. So
the operator names helpers to that one, and each page goes where it is read first: to the model of this pod, or to a
helper that has it ready. A helper gets no more pages at once than a worker is given (`batching.maxPages`), so the
others wait here, where they are served first come, first served, whatever becomes of the helper.
"""

import itertools
from collections.abc import Iterator
from dataclasses import replace

from ocr_inference.scheduling.commands import Help, HelpEnded
from ocr_inference.scheduling.state import HandOver, Helper, Model, SchedulerState
from ocr_inference.scheduling.transaction import Transaction
from ocr_inference.scheduling.waiter_queue import Waiter

MAX_HELPERS = 64
"""Pods that read for one server at a time; another one isn't asked."""


def changed(state: SchedulerState, command: Help | HelpEnded) -> SchedulerState:
    """Return the state with a helper more or less; unchanged where there are enough, or its model isn't known."""
    known = state.helpers.get(command.helper)
    if isinstance(command, HelpEnded):
        rest = {name: helper for name, helper in state.helpers.items() if name != command.helper}
        return replace(state, helpers=rest)
    if command.model not in state.models or (known is None and len(state.helpers) >= MAX_HELPERS):
        return state
    tickets = known.tickets if known is not None and known.model == command.model else frozenset[int]()
    return _with(state, command.helper, Helper(command.model, max(1, command.pages), tickets))


def released(state: SchedulerState, ticket: int) -> SchedulerState | None:
    """Return the state after a helper is done with a page; None where no helper has it."""
    for name, helper in state.helpers.items():
        if ticket in helper.tickets:
            return _with(state, name, replace(helper, tickets=helper.tickets - {ticket}))
    return None


def reading(state: SchedulerState) -> bool:
    """Return whether a helper reads a page."""
    return any(helper.tickets for helper in state.helpers.values())


def hand_over(transaction: Transaction) -> None:
    """Hand waiters over to helpers that are free, and forget helpers for which none is left."""
    if not transaction.state.helpers:
        return
    for model in transaction.each():
        pairs = tuple(_next_ones(transaction.state, model))
        for waiter, name in pairs:
            helper = transaction.state.helpers[name]
            tickets = helper.tickets | {waiter.ticket}
            transaction.state = _with(transaction.state, name, replace(helper, tickets=tickets))
            transaction.effects.append(HandOver(waiter.ticket, model.name, name, waiter.since))
        left = model.without([waiter for waiter, _ in pairs])
        # What it lacks memory for are waiters.
        transaction.put(left if left.servable else replace(left, waits_for=None))
    for name, helper in transaction.state.helpers.items():
        if not helper.tickets and not transaction.models[helper.model].waiting:
            transaction.state = changed(transaction.state, HelpEnded(name))


def _next_ones(state: SchedulerState, model: Model) -> Iterator[tuple[Waiter, str]]:
    """Yield waiters of the model, oldest first, each with the helper that reads its page."""
    free = [
        name
        for name, helper in state.helpers.items()
        for _ in range(helper.pages - len(helper.tickets))
        if helper.model == model.name
    ]
    if free:
        movable = (waiter for waiter in model.servable if waiter.movable and not waiter.alone)
        yield from zip(itertools.islice(movable, len(free)), free, strict=False)


def _with(state: SchedulerState, name: str, helper: Helper) -> SchedulerState:
    return replace(state, helpers={**state.helpers, name: helper})
