"""Moves a model's weights: from a source into the host tier, from there to the device, and away again.

A checkpoint whose tensors are the model's own is read straight into the host tier. One that transformers has to convert
is converted once, and read from a weight image from then on. Where servers of a node share weights, the first one does
either and leaves the host tier as a shared image (`sharing`), which all of them map.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
import transformers

from ocr_inference import limits
from ocr_inference.checkpoints import sources
from ocr_inference.checkpoints.sources import Checkpoint, faults
from ocr_inference.checkpoints.weights import image, layout, reading
from ocr_inference.checkpoints.weights.files import ImageNotWritten, discard
from ocr_inference.checkpoints.weights.header import BadWeights
from ocr_inference.checkpoints.weights.layout import Layout
from ocr_inference.checkpoints.weights.reading import OnRange
from ocr_inference.engines.transformers import checkpoints, devices, errors, memory, packing, torchweights
from ocr_inference.engines.transformers.checkpoints import Opened
from ocr_inference.engines.transformers.packing import PackedWeights
from ocr_inference.engines.transformers.rehearsal import Rehearsal
from ocr_inference.engines.transformers.sharing import NotShared, Sharing
from ocr_inference.engines.transformers.torchweights import FlatModel
from ocr_inference.protocol.engine import (
    EngineError,
    Failure,
    FailureKind,
    Footprint,
    ModelSpec,
    Progress,
    Report,
)
from ocr_inference.protocol.host_tier import HostTier

log = logging.getLogger(__name__)


class Weights:
    """Weights of one model, whole or gone: every method ends with the model in the place that it names, or raises and
    leaves it on the host if that was filled, else nowhere."""

    def __init__(
        self,
        spec: ModelSpec,
        host: HostTier,
        report: Report,
        environ: Mapping[str, str],
        terms: packing.Terms | None = None,
        *,
        rehearsal: Rehearsal | None = None,
    ) -> None:
        """Prepare; `terms` are those on which weights are packed where a CPU computes with them, None for never."""
        self._terms = terms if spec.device == "cpu" else None
        self._spec = spec
        self._host = host
        self._report = report
        self._environ = environ
        self._opened: Opened | None = None
        self._flat: FlatModel | None = None
        self._packed: PackedWeights | None = None
        self._rehearsal = rehearsal or Rehearsal()
        self._image_failure: Failure | None = None
        """Why the last load couldn't keep what it had converted, or share it."""
        self._sharing: Sharing | None = None
        if spec.share_weights:
            self._sharing = Sharing(spec, host, report)
            self._report = self._sharing.report

    @property
    def opened(self) -> Opened:
        """Checkpoint, with its model bound to the place where it is; raises `EngineError` before `load` or
        `restore`."""
        if self._opened is None:
            raise EngineError(Failure(kind=FailureKind.FAILED, message="the model is not loaded"))
        return self._opened

    @property
    def device(self) -> torch.device:
        """Device on which the model computes."""
        return torch.device("cuda" if self._spec.device == "cuda" else "cpu")

    def load(self) -> None:
        """Load from the source, or the image that others share, into host tier and device."""
        self._image_failure = None
        self._close()
        checkpoint = self._fetch()
        try:
            if self._sharing is None:
                self._read(checkpoint)
            else:
                self._load_shared(self._sharing, checkpoint)
        except BadWeights as error:
            self._close()
            raise faults.invalid("", "", str(error)) from None
        except BaseException:
            self._close()
            raise
        memory.freeze()
        self._pack()
        self._rehearsal.end()

    def stand_by(self) -> None:
        """Prepare a restore except for the device, in a process that never loaded; nothing where only CUDA knows in
        which dtype the device computes."""
        if self._spec.device != "cuda" or self._spec.compute_capability is not None:
            self._sealed(beside=False).stand_by()

    def restore(self) -> None:
        """Restore from the host tier to the device, also in a process that never loaded. Loads anew where the host tier
        is a shared image that is gone or damaged."""
        try:
            self._sealed().to_device()
        except NotShared as error:
            log.warning("model %s: loading again: %s", self._spec.name, error)
            self.load()
        else:
            self._pack()
            self._rehearsal.end()

    def offload(self) -> None:
        """Offload; all that pages took must be freed before: references to it would keep it on the device."""
        assert self._flat is not None
        memory.collect()
        self._drop_packed()
        self._flat.drop_device()

    def pin(self) -> None:
        """Make the next restores faster, in the background, if that isn't done. Not before the first answer."""
        if self._flat is not None:
            self._flat.pin()

    def unload(self) -> None:
        self._close()
        self._host.resize(0)

    def footprint(self) -> Footprint:
        """Return the footprint. The device's part counts what pages took on top of the weights, as far as this process
        has measured."""
        on_device = 0 if self._flat is None else self._flat.device_bytes
        if on_device:
            on_device = max(on_device, memory.peak_bytes(self.device))
        shared = None if self._sharing is None else self._sharing.tier
        return Footprint(
            device_bytes=on_device,
            host_bytes=self._host.size if shared is None else shared.size,
            shared_bytes=0 if shared is None else shared.size,
            packed_bytes=0 if self._packed is None else self._packed.nbytes,
            image_failure=self._image_failure,
        )

    # --- parts ------------------------------------------------------------------------------------------------

    def _sealed(self, *, beside: bool = True) -> FlatModel:
        """Return the model, for which the host tier holds the weights; opens it where that isn't done, and rehearses
        `beside` what comes then. Raises `NotShared` where the weights were in an image and are nowhere now: it is gone
        or cut off, or a load that was to make it again failed half way."""
        if self._flat is None:
            checkpoint = self._fetch()
            flat, opened, plan = self._open(checkpoint, unread=False, beside=beside)
            if self._sharing is not None and not flat.sealed:
                try:
                    self._sharing.reopen(flat, self._key(opened, checkpoint, plan), plan)
                except NotShared:
                    self._close()  # a standby that a wake has taken already restores all the same
                    raise
            memory.freeze()
        else:
            flat = self._flat
        if not flat.sealed:
            message = "host memory doesn't hold this model's weights"
            raise EngineError(Failure(kind=FailureKind.FAILED, message=message))
        return flat

    def _fetch(self) -> Checkpoint:
        return sources.fetch(self._spec, Path(self._spec.cache_dir), self._report, self._environ)

    def _open(
        self, checkpoint: Checkpoint, *, unread: bool, beside: bool = True
    ) -> tuple[FlatModel, Opened, Layout]:
        """Open everything but the weights."""
        self._close()
        spec = self._spec
        capability = spec.compute_capability
        if spec.device == "cuda" and capability is None:
            capability = torch.cuda.get_device_capability()
        opened = checkpoints.open(
            checkpoint.folder,
            spec.dtype,
            spec.attention,
            device=self.device.type,
            capability=capability,
            unread=unread,
        )
        for reason in opened.reasons:
            log.warning("model %s: %s", spec.name, reason)
        plan = layout.plan(*torchweights.entries(opened.model))
        flat = FlatModel(opened.model, plan, self._host, devices.device(spec.device))
        self._opened, self._flat = opened, flat
        self._rehearsal.begin(opened, beside=beside)
        return flat, opened, plan

    def _close(self) -> None:
        if self._flat is None:
            # A new process has nothing to free, and a collection would copy the pages that its forkserver froze.
            return
        self._rehearsal.end()
        self._drop_packed()
        self._packed = None
        self._flat.close()
        self._flat = self._opened = None
        if self._sharing is not None:
            self._sharing.close()
        memory.unfreeze()
        memory.release(self.device)

    def _pack(self) -> None:
        """Pack the weights for the CPU, where that is wanted and memory is left; without, decoding is slower."""
        if (terms := self._terms) is None:
            return
        name, opened = self._spec.name, self.opened
        if (reason := packing.unfit(opened.dtype)) is not None:
            log.info("model %s: weights aren't packed for the CPU: %s", name, reason)
            return
        if self._packed is None:
            self._packed = PackedWeights(opened.model, terms.least_elements)
        try:
            limits.require_memory(self._packed.nbytes_packed + terms.spare_bytes, "packing the weights")
            self._packed.pack()
        except Exception as error:
            if not errors.ran_out(error):
                raise
            log.warning("model %s: weights aren't packed, so decoding is slower: %s", name, error)

    def _drop_packed(self) -> None:
        if self._packed is not None:
            self._packed.drop()

    def _load_shared(self, sharing: Sharing, checkpoint: Checkpoint) -> None:
        """Map the shared image, after making it where there is none; without one, the weights are this server's own."""
        flat, opened, plan = self._open(checkpoint, unread=False)
        key = self._key(opened, checkpoint, plan)
        loaded = False
        try:
            if sharing.attach(flat, key, plan):
                return
            with sharing.claim(key, plan):
                if sharing.attach(flat, key, plan):  # another server has made it meanwhile
                    return
                flat = self._read(checkpoint, keep=False)
                loaded = True
                sharing.share(flat, key, plan)
        except ImageNotWritten as error:
            if not loaded:
                self._read(checkpoint)
            self._not_kept("this server has the weights in memory of its own", error)

    def _read(self, checkpoint: Checkpoint, *, keep: bool = True) -> FlatModel:
        """Read the checkpoint's weights; what had to be converted is kept as a weight image, or not."""
        flat, opened, plan = self._open(checkpoint, unread=True)
        if opened.conversion_needed:
            self._load_converted(flat, opened, checkpoint, plan, keep=keep)
        else:
            self._load_as_is(flat, opened, checkpoint, plan)
        return flat

    def _key(self, opened: Opened, checkpoint: Checkpoint, plan: Layout) -> image.Key:
        return image.Key(
            source=self._spec.repo or self._spec.path or "",
            revision=checkpoint.key,
            dtype=str(opened.dtype),
            library=f"transformers {transformers.__version__}",
            layout=plan.digest,
        )

    def _load_as_is(self, flat: FlatModel, opened: Opened, checkpoint: Checkpoint, plan: Layout) -> None:
        with reading.Checkpoint.open(checkpoint.folder, within=Path("/")) as files:

            def read(buffer: memoryview, on_range: OnRange) -> int:
                return files.read(plan, buffer, on_range=self._counted("reading", plan, on_range))

            flat.load(read, opened.buffers())

    def _load_converted(
        self, flat: FlatModel, opened: Opened, checkpoint: Checkpoint, plan: Layout, *, keep: bool
    ) -> None:
        """Read from the weight image, which the first load makes."""
        file = image.path(Path(self._spec.cache_dir), self._key(opened, checkpoint, plan))

        def read(buffer: memoryview, on_range: OnRange) -> int:
            return image.read(file, plan, buffer, on_range=self._counted("reading", plan, on_range))

        try:
            flat.load(read)
        except FileNotFoundError:
            log.info("model %s: converting the checkpoint, once", self._spec.name)
        except (BadWeights, OSError) as error:
            # Damaged, or of another user: what can't be read is converted again, as if there were none.
            log.warning("model %s: converting the checkpoint again: %s", self._spec.name, error)
            discard(file)
        else:
            return
        self._report(Progress(phase="converting", total_bytes=plan.weight_bytes))
        flat.load(values=_tensors(opened.converted(), plan), on_value=self._counted("converting", plan))
        if not keep:
            return
        count = self._counted("converting", plan, file=file.name)
        with self._host.map() as tier, memoryview(tier) as everything:
            try:
                image.write(file, plan, everything[: plan.total_bytes], on_range=count)
            except ImageNotWritten as error:
                self._not_kept("the next load converts again", error)

    def _not_kept(self, consequence: str, error: ImageNotWritten) -> None:
        full = isinstance(error.__cause__, OSError) and faults.is_disk_full(error.__cause__)
        kind = FailureKind.DISK_FULL if full else FailureKind.FAILED
        self._image_failure = Failure(kind=kind, message=f"{consequence}: {error}")

    def _counted(
        self,
        phase: Literal["reading", "converting"],
        plan: Layout,
        on_range: OnRange | None = None,
        file: str = "",
    ) -> OnRange:
        """Return what reports each range as progress, after `on_range` has it."""
        done = 0

        def count(offset: int, nbytes: int) -> None:
            nonlocal done
            if on_range is not None:
                on_range(offset, nbytes)
            done += nbytes
            self._report(Progress(phase=phase, done_bytes=done, total_bytes=plan.weight_bytes, file=file))

        return count


def _tensors(model: torch.nn.Module, plan: Layout) -> dict[str, torch.Tensor]:
    """Return the tensors of a model with its weights, by the names of the layout."""
    found: dict[str, torch.Tensor] = dict(model.named_parameters(remove_duplicate=False))
    found |= dict(model.named_buffers(remove_duplicate=False))
    return {name: found[name].detach() for name in plan.slots}
