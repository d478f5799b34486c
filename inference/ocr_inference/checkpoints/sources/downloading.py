"""Downloads a checkpoint: small files first, so that what is wrong with it shows before its gigabytes are on the way.

Bytes are written as they come and kept when a connection, the process or the machine breaks off: whoever comes next
goes on from there. A file gets its name when its size and hash are right, the folder gets its when all files are
there. Where the disk is full, everything that was written is given back.
"""

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from ocr_inference.checkpoints.sources import checking, faults, selection
from ocr_inference.checkpoints.sources.cache import Place
from ocr_inference.checkpoints.sources.hub import Hub, HubError, Listing, RemoteFile
from ocr_inference.checkpoints.sources.part import Part
from ocr_inference.checkpoints.sources.rate_limiter import Pace
from ocr_inference.protocol.engine import EngineError, Failure, FailureKind, Progress, Report

log = logging.getLogger(__name__)

DEFAULT_ENDPOINT: Final = "https://huggingface.co"
AHEAD_BYTES: Final = 256 << 10
"""What attempts have to gain to count as getting ahead: more than connections that break at once leave behind."""
RESERVE_BYTES: Final = 16 << 20
"""Of the disk, left for others."""
CORRUPT_LIMIT: Final = 2
"""Times that a file may come with a wrong hash before it is given up."""


@dataclass(frozen=True)
class Asked:
    """A repository's revision, where it goes, and what is there."""

    repo: str
    revision: str
    place: Place
    usable: str | None
    """The commit that the revision last stood for, if that is complete."""
    environ: Mapping[str, str]


def bring(asked: Asked, report: Report, pace: Pace) -> str:
    """Have the commit that the revision is now in the cache; the usable one if the hub can't say. Returns it."""
    place = asked.place
    with Hub(_endpoint(asked.environ), asked.environ.get("HF_TOKEN") or None, pace) as hub:
        try:
            listing = _ask(hub, asked, pace)
        except HubError as error:
            if error.gone or asked.usable is None:
                raise faults.unavailable(str(error)) from error
            log.warning("%s; going on with commit %s from the cache", error, asked.usable)
            return asked.usable
        commit = listing.commit
        report(Progress(phase="downloading", revision=commit))
        try:
            if not place.complete(commit):
                with place.locked(commit, lambda: _wait(place, commit, report, pace)):
                    if not place.complete(commit):
                        place.reopen(commit)
                        _Download(hub, asked, listing, report, pace).run()
                    place.sweep(commit)
            place.pin(asked.revision, commit)
        except HubError as error:
            raise faults.unavailable(str(error)) from error
        except OSError as error:
            if not faults.is_disk_full(error):
                message = f"the cache {place.root} can't be used: {error.strerror} ({error.filename})"
                raise faults.unavailable(message) from error
            place.discard(commit)
            raise faults.disk_full(f"no room for {asked.repo} in {place.root}: {error.strerror}") from error
    return commit


def _ask(hub: Hub, asked: Asked, pace: Pace) -> Listing:
    """Once where the cache has an answer, too; else as patiently as for a file."""
    failed = 0
    while True:
        try:
            return hub.listing(asked.repo, asked.revision)
        except HubError as error:
            failed += 1
            if not error.retry or asked.usable is not None or failed >= pace.attempts:
                raise
            _rest(error, failed, pace)


def _rest(error: HubError, failed: int, pace: Pace) -> None:
    delay = pace.delay(failed, error.retry_after_seconds)
    log.warning("%s; trying again in %.1f seconds", error, delay)
    pace.sleep(delay)


def _wait(place: Place, commit: str, report: Report, pace: Pace) -> None:
    """Another process is downloading it."""
    report(Progress(phase="downloading", done_bytes=place.written(commit), revision=commit))
    pace.sleep(pace.poll_seconds)


def _endpoint(environ: Mapping[str, str]) -> str:
    endpoint = environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT
    parts = urlsplit(endpoint)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        message = f"HF_ENDPOINT is not an http(s) address: {faults.shown(endpoint.rpartition('@')[2])}"
        raise EngineError(Failure(kind=FailureKind.UNSUPPORTED, message=message, param="HF_ENDPOINT"))
    return endpoint


class _Download:
    """One commit of one repository, by the process that holds its lock."""

    def __init__(self, hub: Hub, asked: Asked, listing: Listing, report: Report, pace: Pace) -> None:
        self._hub = hub
        self._repo = asked.repo
        self._place = asked.place
        self._listing = listing
        self._report = report
        self._pace = pace
        self._folder = asked.place.partial(listing.commit)
        self._wanted: dict[str, RemoteFile] = {}
        """What belongs to the checkpoint, as far as it is known."""
        self._complete_bytes = 0

    def run(self) -> None:
        """Raises `EngineError`, `HubError` and `OSError`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            self._get(self._small())
            checking.check_small(self._folder)
            weights = self._weights()
        except EngineError:
            self._place.discard(self._listing.commit)
            raise
        self._get(weights)
        self._place.finish(self._listing.commit, {name: file.size for name, file in self._wanted.items()})

    def _small(self) -> Sequence[str]:
        """Configuration, tokenizer, and the index of the weights where there is one."""
        files = self._listing.files
        selection.require(files, f"repository {self._repo}")
        names = selection.supporting(files)
        if selection.SINGLE not in files:
            names = (*names, selection.INDEX)
        for name in names:
            limit = selection.limit(name)
            if limit is not None and files[name].size > limit:
                raise faults.invalid(name, "", f"has {files[name].size} bytes; {limit} are allowed")
        return names

    def _weights(self) -> Sequence[str]:
        if selection.SINGLE in self._listing.files:
            return (selection.SINGLE,)
        index = checking.parse_index((self._folder / selection.INDEX).read_bytes())
        return selection.shards(index, self._listing.files)

    def _get(self, names: Sequence[str]) -> None:
        """Have these files in the folder, complete and verified."""
        files = [self._listing.files[name] for name in names]
        self._wanted |= {file.name: file for file in files}
        self._check_room()
        for file in files:
            path = self._folder / file.name
            # It got its name when it was verified.
            if not path.exists() or path.stat().st_size != file.size:
                part = self._folder / f"{file.digest.replace(':', '-')}.part"
                with Part(part, file.size, file.digest) as opened:
                    self._fill(file, opened)
                    opened.keep(path)
            self._complete_bytes += file.size
            self._tell(file, 0)

    def _check_room(self) -> None:
        here = self._place.written(self._listing.commit)
        missing = max(0, sum(file.size for file in self._wanted.values()) - here)
        free = shutil.disk_usage(self._folder).free
        if missing + RESERVE_BYTES > free:
            self._place.discard(self._listing.commit)
            message = (
                f"{self._repo} takes {missing} more bytes in {self._place.root}, whose disk has {free} left"
            )
            raise faults.disk_full(message)

    def _fill(self, file: RemoteFile, part: Part) -> None:
        """Receive until the file is complete and verified, with pauses where the hub doesn't deliver."""
        failed = corrupt = 0
        mark = part.size
        while True:
            self._tell(file, part.size)
            try:
                self._receive(file, part)
            except HubError as error:
                if part.size - mark >= AHEAD_BYTES:
                    failed, mark = 0, part.size
                failed += 1
                if not error.retry or failed >= self._pace.attempts:
                    raise
                _rest(error, failed, self._pace)
                continue
            if part.verified():
                return
            part.clear()
            corrupt += 1
            if corrupt >= CORRUPT_LIMIT:
                message = f"came {corrupt} times with another hash than {self._hub.host} lists"
                raise faults.invalid(file.name, "", message)
            log.warning("%s of %s came with a wrong hash; once more", file.name, self._repo)

    def _receive(self, file: RemoteFile, part: Part) -> None:
        """One request for what is missing."""
        if part.size == file.size:
            return
        with self._hub.open(self._repo, self._listing.commit, file, part.size) as body:
            if body.offset != part.size:
                part.clear()
            for chunk in body.chunks:
                if part.size + len(chunk) > file.size:
                    part.clear()
                    message = f"{file.name} of {self._repo}: more than the {file.size} bytes listed came"
                    raise HubError(message, retry=True)
                part.write(chunk)
                self._tell(file, part.size)
        if part.size < file.size:
            message = f"{file.name} of {self._repo}: {part.size} of {file.size} bytes came"
            raise HubError(message, retry=True)

    def _tell(self, file: RemoteFile, here: int) -> None:
        self._report(
            Progress(
                phase="downloading",
                done_bytes=self._complete_bytes + here,
                total_bytes=sum(each.size for each in self._wanted.values()),
                file=file.name,
                files=len(self._wanted),
                revision=self._listing.commit,
            )
        )
