"""OpenRouter's dialect, `/api/v1/videos`, for its unmodified SDKs. What the fields mean is in `openrouter_forms`.

Their statuses matter: they take 202 for a create and 200 for all else, and raise an error of its own type for each of
400, 401, 402, 403, 404, 409, 410, 413, 429, 500 and 503 (Python SDK 1.3.84).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from service.clock import Clock
from service.model import Face, Job, Problem
from service.providers import Provider
from service.store import NewJob, Store
from service.web.answers import JSONResponse
from service.web.body import BODY_SECONDS, LONGEST_WITH_MEDIA, parse_object, read_body, require_json
from service.web.callers import Callers, is_job_id
from service.web.content import Content
from service.web.creating import Creating
from service.web.filters import read_index
from service.web.mistakes import read, top
from service.web.notify import notify_problems
from service.web.openrouter_forms import (
    OWN_PROVIDER,
    OpenRouterBody,
    OpenRouterForms,
    elsewhere,
    in_its_words,
    video_request,
)
from service.web.options import options_problems
from service.web.refusals import RefusalError, invalid_request
from service.web.requests import PROVIDER_HEADER
from service.web.routing import Routing


class OpenRouterFace:
    """Serves jobs to callers who speak OpenRouter's dialect.

    `allowed_private_hosts` are `host:port` where callers may be told although they are not public.
    """

    def __init__(  # noqa: PLR0913 - every object that the handlers need comes by name
        self,
        *,
        store: Store,
        callers: Callers,
        creating: Creating,
        content: Content,
        routing: Routing,
        providers: Mapping[str, Provider],
        clock: Clock,
        forms: OpenRouterForms,
        allowed_private_hosts: Collection[str] = (),
    ) -> None:
        self._store = store
        self._callers = callers
        self._creating = creating
        self._content = content
        self._routing = routing
        self._providers = providers
        self._clock = clock
        self._forms = forms
        self._allowed = frozenset(allowed_private_hosts)

    async def create(self, request: Request) -> Response:
        """Accept a job: 202 once it is on disk, before any provider is asked."""
        caller = await self._callers.caller(request)
        require_json(request)
        body = parse_object(await read_body(request, limit=LONGEST_WITH_MEDIA, seconds=BODY_SECONDS))
        new = await self._new_job(request, body, caller.tenant)
        headers = request.headers.getlist(PROVIDER_HEADER)
        return await self._creating.create(
            request, caller, new, operation="openrouter.videos.create", body=[body, *headers], answer=self._accepted
        )

    def _accepted(self, job: Job, headers: dict[str, str]) -> Response:
        return JSONResponse(self._forms.job(job), 202, {"location": self._forms.url(job), **headers})

    async def read(self, request: Request) -> Response:
        """Show one job, whichever face it came through."""
        job = await self._callers.own_job(request)
        return JSONResponse(self._forms.job(job) | await self._links(request, job))

    async def content(self, request: Request) -> Response:
        """Send artifact `?index=` (0 when left out) of the job that the path names."""
        job = await self._callers.own_job(request)
        return await self._content.serve(request, job, read_index(request))

    async def _new_job(self, request: Request, body: Mapping[str, Any], tenant: str) -> NewJob:
        """Turn a body into what the store accepts. Raises RefusalError (400, 409) that names everything wrong."""
        wanted, problems = read(OpenRouterBody, body, {"model": "?"})
        problems += notify_problems("callback_url", wanted.callback_url, self._allowed)
        named, previous = self._named(request, problems), await self._previous(wanted, tenant, problems)
        if any(problem.field == "model" for problem in problems):
            raise invalid_request(problems)
        if previous is not None:
            if named not in (None, previous.provider):
                advice = f"leave {PROVIDER_HEADER} out, or name {previous.provider} in it"
                problems.append(Problem("previous_job_id", f"belongs to {previous.provider}; {advice}"))
            named = previous.provider
            wanted.previous_job_id = previous.provider_job_id or previous.id
        name = await self._routing.provider_for(wanted.model, wanted=named, own=OWN_PROVIDER)
        made = video_request(wanted, name)
        problems += options_problems(made, sent=body, within="provider")
        # Of a field that is wrong anyway, the provider was not shown what was sent.
        wrong = {top(problem.field) for problem in problems}
        more = elsewhere(wanted, name) + in_its_words(self._providers[name].problems(made))
        problems += [problem for problem in more if top(problem.field) not in wrong]
        if problems:
            raise invalid_request(problems)
        if previous is not None and previous.provider_job_id is None:
            raise RefusalError(
                409,
                "previous_job_not_ready",
                f"{previous.id} has no name at {previous.provider} yet; continue it when it is completed.",
            )
        return NewJob(tenant, name, made, face=Face.OPENROUTER, notify_url=wanted.callback_url)

    def _named(self, request: Request, problems: list[Problem]) -> str | None:
        """Return the provider that the caller named in a header."""
        given = request.headers.getlist(PROVIDER_HEADER)
        if not given or (len(given) == 1 and given[0] in self._providers):
            return given[0] if given else None
        there = ", ".join(self._providers)
        problems.append(Problem(PROVIDER_HEADER, f"must be one header, one of {there}, which are configured here"))
        return None

    async def _previous(self, wanted: OpenRouterBody, tenant: str, problems: list[Problem]) -> Job | None:
        """Return the earlier job of ours that is continued; None when there is none, or the id is OpenRouter's own."""
        if wanted.previous_job_id is None or not is_job_id(wanted.previous_job_id):
            return None
        job = await self._store.job(wanted.previous_job_id, tenant)
        if job is None:
            problems.append(Problem("previous_job_id", "must be a job under this API key, and there is no such job"))
        return job

    async def _links(self, request: Request, job: Job) -> dict[str, Any]:
        """Return links that need no key, as far as the storage can make them: without them a job reads just as well."""
        expires_at = self._clock.now() // 1000 + self._content.link_seconds
        links = await self._content.links(request, [each.key for each in job.artifacts])
        return {"urls": links, "expires_at": expires_at} if links else {}
