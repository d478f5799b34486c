"""Errors of task groups: the one that broke it, as if there were no group."""


def first(error: BaseException) -> BaseException:
    """Return the first error of a group, and of groups in it; an error itself where it is none."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
