"""The owner of the live settings: what was declared, what was set here, and what follows from both.

Declared settings carry a revision that only rises. A timeout set at this server (`POST /gpu/timeout`) is local:
it overrides what is declared until a newer revision arrives or the process ends.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from ocr_inference.config import parsing
from ocr_inference.config.settings import (
    MAX_FILE_BYTES,
    Config,
    Effective,
    InvalidSettings,
    LiveSettings,
    effective,
)
from ocr_inference.errors import ApiError

log = logging.getLogger(__name__)


class LiveSettingsOwner:
    """`on_change` gets the new `Effective` each time something changed; it is not called for the first one."""

    def __init__(
        self,
        config: Config,
        declared: LiveSettings,
        gpu_idle_timeout: float | None,
        on_change: Callable[[Effective], None],
    ) -> None:
        self._config = config
        self._gpu_idle_timeout = gpu_idle_timeout
        self._on_change = on_change
        self._local: dict[str, float] = {}
        self.declared = declared
        self.effective = self._merge()

    def declare(self, body: bytes) -> LiveSettings:
        """Take newer settings and return those in force; raises 409 for older ones, 422 for bad ones.

        The same revision again is fine when its values are the same; its generation may have risen, since the
        declaring resource can change in parts that aren't live.
        """
        try:
            sent = parsing.parse_live(body, tuple(model.name for model in self._config.models))
        except InvalidSettings as error:
            raise ApiError(422, "invalid_settings", str(error), param=error.param) from error
        held = self.declared
        if sent.revision < held.revision:
            raise ApiError(
                409,
                "stale_revision",
                f"revision {sent.revision} is older than {held.revision}, which is in force",
                param="revision",
            )
        if sent.revision == held.revision:
            if sent.hash != held.hash:
                raise ApiError(
                    409,
                    "revision_conflict",
                    f"revision {sent.revision} is in force with other values (hash {held.hash}): raise the revision",
                    param="revision",
                )
            if sent.generation > held.generation:
                self.declared = sent
                self._changed("settings confirmed")
            return self.declared
        self.declared = sent
        self._local.clear()
        self._changed("settings applied")
        return sent

    def set_timeout(self, model: str | None, seconds: float) -> None:
        """Set the offload timeout of one model, or of all, at this server only."""
        names = [model] if model is not None else [each.name for each in self._config.models]
        self._local.update(dict.fromkeys(names, seconds))
        self._changed("local timeout set")

    def _changed(self, what: str) -> None:
        self.effective = self._merge()
        held = self.declared
        log.info(
            "%s generation=%d revision=%d hash=%s local_timeouts=%s",
            *(what, held.generation, held.revision, held.hash, self._local or "none"),
        )
        self._on_change(self.effective)

    def _merge(self) -> Effective:
        return effective(self._config, self.declared, self._gpu_idle_timeout, self._local)


def at_start(path: Path | None, config: Config) -> LiveSettings:
    """The live settings file's content. Missing or empty: nothing is declared yet; garbage: logged, the same.

    A pod whose settings can't be read serves by its defaults and reports revision 0, so whoever declared them
    sees that they are not applied and pushes them.
    """
    if path is None:
        return LiveSettings()
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return LiveSettings()
    except OSError as error:
        log.error("live settings unreadable, defaults are used path=%s error=%s", path, error)  # noqa: TRY400
        return LiveSettings()
    if not text.strip():
        return LiveSettings()
    try:
        return parsing.parse_live(text, tuple(model.name for model in config.models))
    except InvalidSettings as error:
        log.error("live settings invalid, defaults are used path=%s error=%s", path, error)  # noqa: TRY400
        return LiveSettings()
