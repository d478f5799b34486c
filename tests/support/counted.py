"""The calls of an operator to its API server, counted."""

from collections import Counter
from typing import Any

from ocr_operator.kube import api

VERBS = {"get", "find", "apply", "apply_status", "patch", "create", "delete"}


class Counted:
    """The API server as an operator sees it; `calls` has how often it said which verb of which kind."""

    def __init__(self, kube: Any) -> None:
        self._kube = kube
        self.calls: Counter[str] = Counter()

    def __getattr__(self, verb: str) -> Any:
        found = getattr(self._kube, verb)
        if verb not in VERBS:
            return found

        async def call(what: Any, *arguments: Any, **options: Any) -> Any:
            kind = what if isinstance(what, api.Kind) else _ref(what).kind
            self.calls[f"{verb} {kind.name}{options.get('subresource', '')}"] += 1
            return await found(what, *arguments, **options)

        return call

    def take(self) -> dict[str, int]:
        """Return the calls since the last time."""
        taken, self.calls = self.calls, Counter()
        return dict(taken)


def _ref(what: Any) -> api.Ref:
    return what if isinstance(what, api.Ref) else api.ref_of(what)
