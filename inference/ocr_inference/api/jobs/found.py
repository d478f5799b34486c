"""Jobs by their ids."""

from typing import Final

from aiohttp import web

from ocr_inference.api.appkeys import JOBS
from ocr_inference.errors import ApiError
from ocr_inference.jobs.job import JobState
from ocr_inference.jobs.work import View

MAX_ID: Final = 64


def job(request: web.Request, id_: str, param: str = "id") -> View:
    """Return the job; raises 404 that names `param`."""
    view = request.app[JOBS].view(id_)
    if view is None:
        raise unknown(request, id_, param)
    return view


def with_results(request: web.Request, id_: str, param: str = "id") -> View:
    """Return a job whose results aren't gone; raises 410, too."""
    view = job(request, id_, param)
    if view.job.state is JobState.EXPIRED:
        message = f"the results of {view.job.id} are gone: deleted, or kept long enough"
        raise ApiError(410, "job_expired", message, param=param)
    return view


def unknown(request: web.Request, id_: str, param: str = "id") -> ApiError:
    """Return the refusal of an id that isn't known."""
    id_, instance = id_[:MAX_ID], request.app[JOBS].instance
    if id_.startswith("job-") and not id_.startswith(f"job-{instance}-"):
        why = "it isn't of this process: jobs don't survive a restart, and another replica doesn't know them"
    else:
        why = "it never was, or is forgotten since long"
    return ApiError(404, "job_not_found", f"no job {id_!r} here: {why}", param=param)
