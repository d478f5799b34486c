"""The owner of the live settings: those that were declared, timeouts that were set here, and their merge.

Declared settings have a revision that only rises. A timeout set at this server (`POST /gpu/timeout`) is local: it
overrides what is declared until a newer revision arrives or the process ends.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from ocr_inference.config.settings import Config, Effective, effective
from ocr_inference.errors import ApiError
from ocr_inference.protocol.latest import Latest
from ocr_wire.checked import Invalid
from ocr_wire.live_settings import MAX_BYTES, MAX_STEP, Envelope, Received, parse

log = logging.getLogger(__name__)


class LiveSettingsOwner:
    """Live settings of this server. What other programs declare is read tolerantly: what isn't known is ignored, and
    named in the echo."""

    def __init__(
        self,
        config: Config,
        declared: Received,
        gpu_idle_timeout: float | None,
        apply: Callable[[Effective], None],
    ) -> None:
        """Begin with what is declared at the start; `apply` gets each later `Effective`."""
        self._config = config
        self._declared = declared
        self._gpu_idle_timeout = gpu_idle_timeout
        self._apply = apply
        self._local: dict[str, float] = {}
        self.effective = self._merge()
        self.echo = Latest(declared.envelope)
        """What this server echoes: the declared settings that are in force."""
        self.local_timeouts: Latest[tuple[str, ...]] = Latest(())
        """Models whose offload timeout was set at this server."""

    def declare(self, body: bytes) -> Envelope:
        """Take newer settings and return the echo; raises 409 for older ones, 422 for bad ones, of which none is taken.

        The same revision again is fine when its values are the same; its generation may have risen, since the
        declaring resource can change in parts that aren't live.
        """
        sent = parse(body, _names(self._config))
        if isinstance(sent, Invalid):
            at = sent.at or "body"
            raise ApiError(422, "invalid_settings", f"{at}: {sent.message}", param=at)
        new, held = sent.envelope, self._declared.envelope
        if new.revision < held.revision:
            raise ApiError(
                409,
                "stale_revision",
                f"revision {new.revision} is older than {held.revision}, which is in force",
                param="revision",
            )
        if new.revision > held.revision + MAX_STEP:
            raise ApiError(
                422,
                "invalid_settings",
                f"revision: expected at most {MAX_STEP} above {held.revision}, which is in force; got {new.revision}",
                param="revision",
            )
        if new.revision == held.revision:
            if new.hash != held.hash:
                raise ApiError(
                    409,
                    "revision_conflict",
                    f"revision {new.revision} is in force with other values (hash {held.hash}): raise the revision",
                    param="revision",
                )
            if new.generation > held.generation:
                self._declared = sent
                self._changed("settings confirmed")
            return self._declared.envelope
        self._declared = sent
        self._local.clear()
        self._changed("settings applied")
        return new

    def set_timeout(self, model: str | None, seconds: float) -> None:
        """Set the offload timeout of one model, or of all, at this server only."""
        names = (model,) if model is not None else _names(self._config)
        self._local.update(dict.fromkeys(names, seconds))
        self._changed("local timeout set")

    def _changed(self, what: str) -> None:
        self.effective = self._merge()
        held = self._declared.envelope
        log.info(
            "%s generation=%d revision=%d hash=%s local_timeouts=%s ignored=%s",
            *(what, held.generation, held.revision, held.hash, self._local or "none"),
            ",".join(held.ignored or ()) or "none",
        )
        self._apply(self.effective)
        self.echo.publish(held)
        self.local_timeouts.publish(tuple(name for name in _names(self._config) if name in self._local))

    def _merge(self) -> Effective:
        return effective(self._config, self._declared.values, self._gpu_idle_timeout, self._local)


def at_start(path: Path | None, config: Config) -> Received:
    """Read the live settings file. Missing or empty: nothing is declared yet; not valid: logged, the same.

    A pod whose settings can't be read serves by its defaults and reports revision 0, so the operator sees that they
    aren't applied and pushes them. Settings of a newer operator can be read: what isn't known in them is ignored.
    """
    if path is None:
        return Received()
    found = look(path, config)
    if isinstance(found, Invalid):
        log.error("live settings invalid, defaults are used path=%s error=%s", path, found)
        return Received()
    if ignored := found.envelope.ignored:
        log.warning("live settings of a newer version, ignored path=%s keys=%s", path, ",".join(ignored))
    return found


def look(path: Path, config: Config) -> Received | Invalid:
    """Return what a live settings file declares, which is nothing where it is missing or empty, or why it counts for
    nothing."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return Received()
    except OSError as error:
        return Invalid(f"can't be read: {error.strerror}")
    return parse(text, _names(config)) if text.strip() else Received()


def _names(config: Config) -> tuple[str, ...]:
    return tuple(model.name for model in config.models)
