"""The page of one job: what it waits for or why it failed, its story, all that was said about it, and what to press."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from service.model import Job
from service.store import Store
from service.web.acting import BY_HAND, Acting
from service.web.callers import is_job_id, note, note_made
from service.web.content import Content
from service.web.filters import read_index
from service.web.refusals import RefusalError
from service.web.status.asking import wants_html
from service.web.status.facts import Facts
from service.web.status.jobs import PATH
from service.web.status.pages import Pages, Visitor


class JobPage:
    """Shows a job to whoever may see it, and does what they press."""

    def __init__(self, *, pages: Pages, store: Store, acting: Acting, content: Content, facts: Facts) -> None:
        self._pages = pages
        self._store = store
        self._acting = acting
        self._content = content
        self._facts = facts

    async def page(self, request: Request) -> Response:
        """Show the job that the path names."""
        return await self._show(request)

    async def act(self, request: Request) -> Response:
        """Do what was pressed; the same page says why not, with 409, if it cannot be done now."""
        posted = await self._pages.posted(request)
        if isinstance(posted, Response):
            return posted
        visitor, form = posted
        try:
            job = await self._found(request, visitor)
        except RefusalError:
            return await self._show(request)
        try:
            shown, done = await self._do(request.path_params["action"], job, visitor, form)
        except RefusalError as error:
            note(request, reason=error.code)
            return await self._show(request, status=409, trouble=_trouble(error))
        if shown.id != job.id:
            note_made(request, shown.id)
        return self._pages.back(f"{PATH}/{shown.id}", done=done)

    async def again(self, request: Request) -> Response:
        """Show the job to whoever reloads, or looks on, where something was pressed that could not be done."""
        return self._pages.back(f"{PATH}/{request.path_params['job_id']}")

    async def _do(self, action: str, job: Job, visitor: Visitor, form: dict[str, str]) -> tuple[Job, str]:
        """Return the job to show then, and what was done."""
        match action:
            case "cancel":
                done = await self._acting.cancel(job)
                return done.job, "cancelling" if done.asked else "cancelled"
            case "retry":
                created = await self._acting.retry(job, visitor.key, BY_HAND)
                return created.job, "repeated" if created.replayed else "retried"
            case "redeliver":
                await self._acting.redeliver(job)
                return job, "redelivered"
            case "remirror":
                source = "operator" if visitor.operator else "caller"
                return await self._acting.remirror(job, source=source), "remirrored"
            case "attach" if visitor.operator:
                return await self._acting.attach(job, form.get("provider_job_id", "").strip()), "attached"
            case _:
                raise RefusalError(404, "not_found", "There is no such button.")

    async def content(self, request: Request) -> Response:
        """Send artifact `?index=`, or a part of it: through us, since the page may load nothing from elsewhere."""
        return await self._send(request, poster=False)

    async def poster(self, request: Request) -> Response:
        """Send a picture of artifact `?index=`."""
        return await self._send(request, poster=True)

    async def _send(self, request: Request, *, poster: bool) -> Response:
        visitor = await self._pages.visitor(request)
        if visitor is None and wants_html(request):
            return await self._show(request)
        if visitor is None:
            raise RefusalError(401, "signed_out", "Your session has ended; sign in again.")
        try:
            job = await self._found(request, visitor)
            send = self._content.poster if poster else self._content.serve
            return await send(request, job, read_index(request), stream=True)
        except RefusalError as error:
            if not wants_html(request):
                raise
            return await self._show(request, instead=error)

    async def _show(
        self,
        request: Request,
        *,
        status: int = 200,
        trouble: str | None = None,
        instead: RefusalError | None = None,
    ) -> Response:
        async def fill(visitor: Visitor) -> dict[str, Any]:
            if instead is not None:
                raise instead
            job = await self._found(request, visitor)
            shown = await self._facts.about(job, operator=visitor.operator)
            return {**shown, "path": f"{PATH}/{job.id}"}

        return await self._pages.show(request, "job.html", fill, status=status, trouble=trouble)

    async def _found(self, request: Request, visitor: Visitor) -> Job:
        job_id = request.path_params["job_id"]
        job = await self._store.job(job_id, visitor.tenant) if is_job_id(job_id) else None
        if job is None:
            seen = "It may have been deleted." if visitor.operator else "It may have been deleted, or be another's."
            raise RefusalError(404, "job_not_found", f"There is no such job. {seen} Look for it in the list of jobs.")
        note(request, job=job.id)
        return job


def _trouble(error: RefusalError) -> str:
    """Return why something was not done, as whoever pressed a button reads it."""
    if error.problems:
        return f"The provider's id {error.problems[0].message}."
    if error.code == "job_deleted":
        return "It was retried before, and that job was deleted since. For one more, use the command for Retry below."
    return error.message
