"""One copy of a model's weights for all servers of a node: as a host tier, each maps the same shared image.

The server's own host tier then only refers to it, and outlives the worker as ever. A worker that comes later opens the
image by its key; the pages stay in the page cache, mapped or not, until the kernel needs their memory.
"""

import contextlib
import errno
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ocr_inference.checkpoints.weights import files, shared_image
from ocr_inference.checkpoints.weights.header import BadWeights
from ocr_inference.checkpoints.weights.image import Key
from ocr_inference.checkpoints.weights.layout import Layout
from ocr_inference.checkpoints.weights.shared_image import Claim
from ocr_inference.engines.transformers.torchweights import FlatModel
from ocr_inference.protocol.engine import ModelSpec, Progress, Report
from ocr_inference.protocol.host_tier import HostTier

log = logging.getLogger(__name__)

_LACKS: Final = frozenset({errno.ENOMEM, errno.EMFILE, errno.ENFILE})
"""Errors that say nothing of a file: others may have it mapped."""


class NotShared(Exception):
    """Shared image that a host tier refers to, and that can't be used any more; the message has the reason."""


class Sharing:
    """Shared image of one model, open while it is `tier`."""

    def __init__(self, spec: ModelSpec, host: HostTier, report: Report) -> None:
        self._name = spec.name
        self._cache_dir = Path(spec.cache_dir)
        self._host = host
        self._report = report
        self._claim: Claim | None = None
        self.tier: HostTier | None = None
        """The image, while the model's weights are in it."""

    def report(self, progress: Progress) -> None:
        """Report a load's progress, also to the servers that wait for the image."""
        if self._claim is not None:
            self._claim.report(progress.done_bytes, progress.total_bytes)
        self._report(progress)

    def attach(self, flat: FlatModel, key: Key, plan: Layout) -> bool:
        """Make the model ready from the image; returns whether there is one. A damaged one is removed. Raises
        `ImageNotWritten` where it's this process that lacks memory or descriptors for it."""
        file = shared_image.path(self._cache_dir, key)
        try:
            self._use(flat, key, plan, verify=True)
        except FileNotFoundError:
            return False
        except (BadWeights, OSError) as error:
            if isinstance(error, OSError) and error.errno in _LACKS:
                raise files.ImageNotWritten(
                    f"shared image {file} can't be mapped: {error.strerror}"
                ) from error
            log.warning("model %s: making its shared image again: %s", self._name, error)
            files.discard(file)
            return False
        flat.to_device()
        return True

    def reopen(self, flat: FlatModel, key: Key, plan: Layout) -> None:
        """Give the model the image that the host tier refers to, as a host tier. Raises `NotShared`."""
        if (digest := self._host.refers_to) is None:
            raise NotShared("its last load failed half way")
        if digest != key.digest:
            raise NotShared("the shared image is of another version of the model")
        try:
            self._use(flat, key, plan, verify=False)
        except (BadWeights, OSError) as error:
            raise NotShared(f"its shared image can't be used: {error}") from None

    @contextlib.contextmanager
    def claim(self, key: Key, plan: Layout) -> Iterator[None]:
        """Get the right to make the image, waiting while another server makes it. Raises `ImageNotWritten`."""
        file = shared_image.path(self._cache_dir, key)

        def on_wait(done: int, total: int) -> None:
            self._report(Progress(phase="converting", done_bytes=done, total_bytes=total, file=file.name))

        with shared_image.claim(file, plan.total_bytes, on_wait) as claim:
            self._claim = claim
            try:
                yield
            finally:
                self._claim = None

    def share(self, flat: FlatModel, key: Key, plan: Layout) -> None:
        """Write the model's host tier, which is full, as the image, and have it as host tier from then on. Raises
        `ImageNotWritten`, with the model as it was."""
        file, done = shared_image.path(self._cache_dir, key), 0

        def count(offset: int, nbytes: int) -> None:  # noqa: ARG001
            nonlocal done
            done += nbytes
            self.report(Progress(phase="converting", done_bytes=done, total_bytes=total, file=file.name))

        total = self._host.size
        with self._host.map() as mapped, memoryview(mapped) as tier:
            shared_image.write(file, key, tier, on_range=count)
        try:
            self._use(flat, key, plan, verify=False)
        except (BadWeights, OSError) as error:
            raise files.ImageNotWritten(
                f"shared image {file} was written and can't be read: {error}"
            ) from error

    def close(self) -> None:
        """Close the image; nothing of it may be mapped."""
        if self.tier is not None:
            self.tier.close()
            self.tier = None

    def _use(self, flat: FlatModel, key: Key, plan: Layout, *, verify: bool) -> None:
        tier = shared_image.opened(shared_image.path(self._cache_dir, key), key, plan, verify=verify)
        try:
            flat.use_host(tier)
        except BaseException:
            tier.close()
            raise
        self.tier = tier
        self._host.refer_to(key.digest)
