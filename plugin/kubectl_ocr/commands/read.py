"""`read`: pictures and documents to pods, their texts to standard output or into files.

A picture is one request. What may have many pages is a job of one pod (`follow`).
"""

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kubectl_ocr import documents, pagetexts, podhttp
from kubectl_ocr.cli import FILES, Options
from kubectl_ocr.cluster import Cluster, both, model_of, ready
from kubectl_ocr.commands.follow import by_job
from kubectl_ocr.documents import Document
from kubectl_ocr.errors import Exit, Failure
from kubectl_ocr.objects.pod import Pod
from kubectl_ocr.objects.resource import Resource
from kubectl_ocr.pagetexts import Text
from kubectl_ocr.podhttp import Server
from kubectl_ocr.terminal import ProgressLine
from kubectl_ocr.views.progress import Reading
from ocr_wire import names
from ocr_wire.states import Location
from ocr_wire.tasks import Task

AT_ONCE: Final = 8
"""Pods that read side by side: each has a port-forward, and holds a document here."""


@dataclass(frozen=True)
class Outcome:
    text: Text | None = None
    """None: it was read before, or not at all."""
    failure: Failure | None = None


async def read(options: Options, cluster: Cluster) -> None:
    """Read all documents, print or write each. Raises `Failure` at the end if something couldn't be read."""
    listed = documents.listed(options.files)
    targets = documents.targets(listed, Path(options.folder), options.format) if options.folder else {}
    if len(listed) == 1:
        listed[0].check()  # a wrong name costs no call
    resource, pods = await both(cluster.resource(options.name), cluster.pods(options.name))
    model = model_of(resource, options.model) if options.model else ""
    chosen = choose(resource, ready(resource, pods, options.pod), model)
    key = await _api_key(cluster, resource)
    run = _Run(options, cluster, resource, key=key, targets=targets, count=len(listed))
    if failure := verdict(await run.all(listed, chosen)):
        raise failure


class _Run:
    """One command's documents on their way."""

    def __init__(
        self,
        options: Options,
        cluster: Cluster,
        resource: Resource,
        *,
        key: str,
        targets: Mapping[Document, Path],
        count: int,
    ) -> None:
        self._options, self._cluster, self._resource, self._key = options, cluster, resource, key
        self._targets, self._several = targets, count > 1
        self._line = ProgressLine(count)
        fields = {
            "prompt_type": task(options),
            "model": options.model,
            "find_term": options.find_term,
            "custom_prompt": options.prompt,
            "pages": options.pages,
        }
        self._fields = {name: value for name, value in fields.items() if value}

    async def all(self, listed: list[Document], pods: list[Pod]) -> list[Outcome]:
        """Read them, each pod one after the other, and print them in their order."""
        outcomes: dict[int, Outcome] = {}
        left, printed = iter(enumerate(listed)), 0

        async def take(pod: Pod) -> None:
            nonlocal printed
            for at, document in left:  # shared by all who take
                outcomes[at] = await self._one(document, pod)
                self._line.ended(document.name)
                while printed in outcomes:
                    self._print(listed[printed], outcomes[printed])
                    printed += 1

        with self._line:
            async with asyncio.TaskGroup() as group:
                for pod in pods[: min(AT_ONCE, len(listed))]:
                    group.create_task(take(pod))
        return [outcomes[at] for at in range(len(listed))]

    async def _one(self, document: Document, pod: Pod) -> Outcome:
        target = self._targets.get(document)
        try:
            if target is not None and not self._options.force and document.was_read(target):
                return Outcome()
            content = document.read()
            self._line.reads(document.name, Reading())
            made_as = self._options.format if self._options.format in FILES else ""
            if made_as or documents.has_pages(content):
                text = await by_job(
                    content,
                    document.filename,
                    self._fields,
                    connect=lambda: self._connect(pod),
                    within=self._options.within,
                    progress=lambda reading: self._line.reads(document.name, reading),
                    made_as=made_as,
                )
            else:
                async with self._connect(pod) as server:
                    text = pagetexts.of_answer(await server.read(content, document.filename, self._fields))
            if target is not None:
                documents.write(target, text.encoded(self._options.format, document.name))
        except Failure as failure:
            return Outcome(failure=failure)
        return Outcome(text)

    def _connect(self, pod: Pod) -> AbstractAsyncContextManager[Server]:
        return podhttp.reach(
            self._cluster.kubectl, self._resource, pod, token=self._key, within=self._options.within
        )

    def _print(self, document: Document, outcome: Outcome) -> None:
        if self._several:
            unread = outcome.text.errors if outcome.text is not None else ()
            for each in (outcome.failure, *unread):
                if each is not None:
                    self._line.say(f"{document.name}: {each}")
        if outcome.text is not None and document not in self._targets:
            self._line.pause()
            print(
                outcome.text.printed(self._options.format, document.name if self._several else ""), flush=True
            )


def verdict(outcomes: list[Outcome]) -> Failure | None:
    """Return how the command ends: None where everything was read, now or before."""
    failed = [each.failure for each in outcomes if each.failure is not None]
    partly = [each.text for each in outcomes if each.text is not None and each.text.errors]
    if not failed and not partly:
        return None
    if len(outcomes) == 1:
        return (
            failed[0]
            if failed
            else Failure(f"not all pages are read: {'; '.join(partly[0].errors)}", Exit.PARTIAL)
        )
    count = len(outcomes)
    parts = [
        f"{len(failed)} of {count} documents couldn't be read" if failed else "",
        f"of {len(partly)} not all pages are read" if partly else "",
    ]
    status = failed[0].status if len(failed) == count else Exit.PARTIAL
    return Failure(", ".join(filter(None, parts)), status)


def task(options: Options) -> str:
    """Return the task; a term or a prompt without one is for its own."""
    if options.task:
        return options.task
    if options.find_term and options.prompt:
        raise Failure(
            "--find-term and --prompt are of two tasks: say by --task which one is meant", Exit.USAGE
        )
    if options.find_term or options.prompt:
        return Task.FIND if options.find_term else Task.FREEFORM
    return Task.FREE if options.format == "text" else Task.DOCUMENT


def choose(resource: Resource, pods: list[Pod], model: str) -> list[Pod]:
    """Return the pods that read, the one that answers soonest first: those that are awake, or one that sleeps.

    Awake, then with the model on the GPU, then in host memory, then by name.
    """
    wanted = model or next((each.name for each in resource.spec.models), "")
    where = {
        reported.name: each.location
        for reported in resource.status.pods
        for each in reported.models
        if each.name == wanted
    }
    ranks: dict[str, int] = {Location.GPU: 0, Location.CPU: 1}
    order = sorted(
        pods,
        key=lambda pod: (
            not pod.awake,
            ranks.get(where.get(pod.metadata.name, ""), 2),
            pod.metadata.name,
        ),
    )
    return [pod for pod in order if pod.awake] or order[:1]


async def _api_key(cluster: Cluster, resource: Resource) -> str:
    """Return the first key of the resource's Secret; empty where requests need none."""
    name = resource.spec.server.api_keys_secret_name
    if not name:
        return ""
    return await cluster.token(resource.metadata.namespace, name, names.API_KEYS_KEY)
