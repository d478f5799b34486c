"""Downloads a checkpoint: small files first, so that what is wrong with it shows before its gigabytes are on the way.

Bytes are written as they come and kept when a connection, the process or the machine breaks off: the next process
continues from there. A file gets its name when its size and hash are right, and appears in the commit's folder then.
One that is in the cache already, of another commit or by another program, is verified and used. Where the disk is full,
everything that was written is removed again.
"""

import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

from ocr_inference.checkpoints.sources import checking, faults, selection
from ocr_inference.checkpoints.sources.cache import Place
from ocr_inference.checkpoints.sources.hub import Hub, HubError
from ocr_inference.checkpoints.sources.listing import Listing, RemoteFile
from ocr_inference.checkpoints.sources.part import Part, verified
from ocr_inference.checkpoints.sources.retry_policy import RetryPolicy
from ocr_inference.protocol.engine import EngineError, Progress, Report

log = logging.getLogger(__name__)

_T = TypeVar("_T")

AHEAD_BYTES: Final = 256 << 10
"""What attempts have to gain to count as getting ahead: more than connections that break at once leave behind."""
RESERVE_BYTES: Final = 16 << 20
"""Of the disk, left for others."""
CORRUPT_LIMIT: Final = 2
"""Times that a file may come with a wrong hash before it is given up."""


@dataclass(frozen=True)
class Asked:
    """Request for a repository's revision, with its folder and what is there."""

    repo: str
    revision: str
    place: Place
    usable: str | None
    """The commit that the revision last stood for, if that is complete."""
    endpoint: str = field(repr=False)
    """Address of the hub; it may have a password in it."""
    token: str | None = field(repr=False)


def bring(asked: Asked, report: Report, policy: RetryPolicy) -> str:
    """Download the revision's commit into the cache and return it; the usable one if the hub can't be asked."""
    place = asked.place
    with Hub(asked.endpoint, asked.token, policy) as hub:
        try:
            listing = _ask(hub, asked, policy)
        except HubError as error:
            if error.gone or asked.usable is None:
                raise faults.unavailable(str(error)) from error
            log.warning("%s; going on with commit %s from the cache", error, asked.usable)
            return asked.usable
        commit = listing.commit
        report(Progress(phase="downloading", revision=commit))
        try:
            _Download(hub, asked, listing, report, policy).run()
            place.pin(asked.revision, commit)
        except HubError as error:
            raise faults.unavailable(str(error)) from error
        except OSError as error:
            if not faults.is_disk_full(error):
                message = f"the cache {place.root} can't be used: {error.strerror} ({error.filename})"
                raise faults.unavailable(message) from error
            raise faults.disk_full(f"no room for {asked.repo} in {place.root}: {error.strerror}") from error
    return commit


def _ask(hub: Hub, asked: Asked, policy: RetryPolicy) -> Listing:
    """Ask for the listing: once where the cache has an answer, too, else as often as for a file."""
    if asked.usable is not None:
        return hub.listing(asked.repo, asked.revision)
    return _persistently(lambda: hub.listing(asked.repo, asked.revision), policy)


def _persistently(ask: Callable[[], _T], policy: RetryPolicy) -> _T:
    """Ask until there is an answer, or an error that stays; raises `HubError`."""
    failed = 0
    while True:
        try:
            return ask()
        except HubError as error:
            failed += 1
            if not error.retry or failed >= policy.attempts:
                raise
            _rest(error, failed, policy)


def _rest(error: HubError, failed: int, policy: RetryPolicy) -> None:
    delay = policy.delay(failed, error.retry_after_seconds)
    log.warning("%s; trying again in %.1f seconds", error, delay)
    policy.sleep(delay)


class _Download:
    """Download of one commit of one repository."""

    def __init__(self, hub: Hub, asked: Asked, listing: Listing, report: Report, policy: RetryPolicy) -> None:
        self._hub = hub
        self._repo = asked.repo
        self._place = asked.place
        self._listing = listing
        self._commit = listing.commit
        self._report = report
        self._policy = policy
        self._folder = asked.place.folder(listing.commit)
        self._files = dict(listing.files)
        """Whose size and hash are known; others are asked for one by one, when they are wanted."""
        self._wanted: dict[str, RemoteFile] = {}
        """What belongs to the checkpoint, as far as it is known."""
        self._brought: dict[str, RemoteFile] = {}
        """What came now, complete."""
        self._complete_bytes = 0

    def run(self) -> None:
        """Download the commit. Raises `EngineError`, `HubError` and `OSError`."""
        small = self._small()
        if self._listing.tree is not None:
            # Before the first file: a download that breaks off is known to be incomplete.
            self._place.record(self._commit, self._listing.tree)
        try:
            try:
                self._get(small)
                checking.check_small(self._folder)
                weights = self._weights()
            except EngineError:
                self._discard()
                raise
            self._get(weights)
        except OSError as error:
            if faults.is_disk_full(error):
                self._discard()
            raise
        if self._brought:
            self._place.sweep()

    def _small(self) -> Sequence[str]:
        """Return the names of the small files, after a check of their sizes: configuration, tokenizer, index."""
        selection.require(self._names, f"repository {self._repo}")
        names = selection.supporting(self._names)
        if selection.SINGLE not in self._names:
            names = (*names, selection.INDEX)
        for name in names:
            limit, size = selection.limit(name), self._file(name).size
            if limit is not None and size > limit:
                raise faults.invalid(name, "", f"has {size} bytes; {limit} are allowed")
        return names

    def _weights(self) -> Sequence[str]:
        if selection.SINGLE in self._names:
            return (selection.SINGLE,)
        index = checking.parse_index((self._folder / selection.INDEX).read_bytes())
        return selection.shards(index, self._names)

    @property
    def _names(self) -> frozenset[str]:
        return self._listing.unmeasured | self._listing.files.keys()

    def _file(self, name: str) -> RemoteFile:
        if name not in self._files:
            self._files[name] = _persistently(
                lambda: self._hub.measure(self._repo, self._commit, name), self._policy
            )
        return self._files[name]

    def _get(self, names: Sequence[str]) -> None:
        """Download these files into the folder, complete and verified."""
        files = [self._file(name) for name in names]
        self._wanted |= {file.name: file for file in files}
        self._check_room()
        for file in files:
            if not self._has(file):
                with self._place.locked(file.digest, partial(self._wait, file)):
                    # Another process may have brought it meanwhile.
                    if not self._has(file):
                        self._bring(file)
            self._complete_bytes += file.size
            self._tell(file, 0)

    def _has(self, file: RemoteFile) -> bool:
        return self._place.has(self._commit, file.name, file.size)

    def _wait(self, file: RemoteFile) -> None:
        """Wait while another process downloads the file."""
        self._tell(file, self._place.held(self._commit, file.name, file.digest))
        self._policy.sleep(self._policy.poll_seconds)

    def _bring(self, file: RemoteFile) -> None:
        """Download a file into the commit's folder, under its lock."""
        blob = self._place.blob(file.digest)
        if not verified(blob, file.size, file.digest):
            with Part(self._place.incomplete(file.digest), file.size, file.digest) as part:
                self._fill(file, part)
                part.keep(blob)
            self._brought[file.name] = file
        self._place.link(self._commit, file.name, file.digest)

    def _discard(self) -> None:
        """Remove what was written now or before, apart from files that were complete before, to free the disk."""
        brought = {file.name: file.digest for file in self._brought.values()}
        self._place.discard(self._commit, brought, {file.digest for file in self._wanted.values()})

    def _check_room(self) -> None:
        missing = sum(
            max(0, file.size - self._place.held(self._commit, file.name, file.digest))
            for file in self._wanted.values()
        )
        if not missing:
            return
        self._place.root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self._place.root).free
        if missing + RESERVE_BYTES > free:
            self._discard()
            message = (
                f"{self._repo} takes {missing} more bytes in {self._place.root}, whose disk has {free} left"
            )
            raise faults.disk_full(message)

    def _fill(self, file: RemoteFile, part: Part) -> None:
        """Receive until the file is complete and verified; pause where the hub doesn't deliver."""
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
                if not error.retry or failed >= self._policy.attempts:
                    raise
                _rest(error, failed, self._policy)
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
        """Send one request for what is missing."""
        if part.size == file.size:
            return
        with self._hub.open(self._repo, self._commit, file, part.size) as body:
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
                revision=self._commit,
            )
        )
