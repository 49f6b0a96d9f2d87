"""The OpenAI-style face with LLM Gateway's extensions, `/v1/videos`. What it accepts and shows is in `openai_forms`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from service.clock import Clock
from service.model import ApiKey, Face, Job, OnUnknown, Problem, State
from service.providers import Provider
from service.store import NewJob, Store
from service.vault import Vault
from service.web.answers import JSONResponse
from service.web.body import BODY_SECONDS, LONGEST_WITH_MEDIA, parse_object, read_body, require_json
from service.web.callers import Callers, is_job_id
from service.web.content import Content
from service.web.creating import Creating
from service.web.filters import as_index, as_limit, as_one_of, as_switch, read_query
from service.web.forms import is_form, read_form
from service.web.mistakes import top
from service.web.notify import notify_problems
from service.web.openai_forms import DEFAULT_MODEL, FILES, OpenAIForms, VideoBody, VideoForm, read_video
from service.web.options import options_problems
from service.web.refusals import RefusalError, invalid_request
from service.web.requests import PROVIDER_HEADER, named_provider
from service.web.routing import Routing

_OWN = "llmgateway"  # the provider whose dialect it is
_DEFAULT_SECONDS = 4  # OpenAI's, whose clients may leave them out; LLM Gateway has none
_POLL_AFTER_MS = (1_000, 10_000)


class Videos:
    """Serves jobs to their callers as videos.

    `allowed_private_hosts` (`host:port`) may be told of a job's end although they are not public.
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
        vault: Vault,
        clock: Clock,
        forms: OpenAIForms,
        allowed_private_hosts: Collection[str] = (),
    ) -> None:
        self._store = store
        self._callers = callers
        self._creating = creating
        self._content = content
        self._routing = routing
        self._providers = providers
        self._vault = vault
        self._clock = clock
        self._forms = forms
        self._allowed = allowed_private_hosts

    async def create(self, request: Request) -> Response:
        """Accept a job, asked for as JSON or as a multipart form: 202 once it is on disk."""
        caller = await self._callers.caller(request)
        problems: list[Problem] = []
        form: type[VideoBody] = VideoBody
        if is_form(request):
            form = VideoForm
            body, problems = await read_form(request, files=FILES, limit=LONGEST_WITH_MEDIA, seconds=BODY_SECONDS)
        else:
            require_json(request)
            body = parse_object(await read_body(request, limit=LONGEST_WITH_MEDIA, seconds=BODY_SECONDS))
        body, contradictions = named_provider(body, request.headers.get(PROVIDER_HEADER))
        problems += contradictions
        new = await self._new_job(caller, body, form, problems)
        return await self._creating.create(
            request, caller, new, operation="videos.create", body=body, answer=self._accepted
        )

    async def page(self, request: Request) -> Response:
        """List the caller's videos, whatever face they were asked for by."""
        caller = await self._callers.caller(request)
        query = read_query(request.query_params.multi_items(), _PAGE)
        limit, after = query.get("limit", 20), query.get("after")
        if query.get("order") == "asc":
            jobs = await self._store.jobs_oldest_first(caller.tenant, after_id=after, limit=limit + 1)
        else:
            jobs = await self._store.jobs(caller.tenant, before_id=after, limit=limit + 1)
        listed = jobs[:limit]
        return JSONResponse(
            {
                "object": "list",
                "data": [self._forms.video(job) for job in listed],
                "has_more": len(jobs) > limit,
                "first_id": listed[0].id if listed else None,
                "last_id": listed[-1].id if listed else None,
            }
        )

    async def read(self, request: Request) -> Response:
        """Show one video."""
        return self._shown(await self._callers.own_job(request))

    async def delete(self, request: Request) -> Response:
        """Forget a job that has ended, and remove what it kept."""
        job = await self._callers.own_job(request)
        if not job.state.final:
            raise RefusalError(
                409, "not_final", f"The job is {job.state}; delete it when its status is completed or failed."
            )
        if not await self._store.delete(job):
            raise RefusalError(409, "not_final", "The job is being worked on again; delete it in a minute.")
        return JSONResponse({"id": job.id, "object": "video.deleted", "deleted": True})

    async def content(self, request: Request) -> Response:
        """Send the bytes of a video, or a picture of it."""
        job = await self._callers.own_job(request)
        query = read_query(request.query_params.multi_items(), _CONTENT)
        index = query.get("index", 0)
        match query.get("variant"):
            case "spritesheet":
                raise RefusalError(
                    501, "not_implemented", "There are no spritesheets here; variant=thumbnail is one picture."
                )
            case "thumbnail":
                return await self._content.poster(request, job, index)
            case _:
                return await self._content.serve(request, job, index)

    async def nothing(self, request: Request) -> Response:  # noqa: ARG002 - whatever is asked, there is nothing
        """Answer for remixes, edits, extensions and characters, which no provider here makes."""
        raise RefusalError(
            404,
            "not_supported",
            "Remixes, edits, extensions and characters are not offered here; ask for a new video with POST /v1/videos.",
        )

    async def _new_job(
        self, caller: ApiKey, body: Mapping[str, Any], form: type[VideoBody], problems: list[Problem]
    ) -> NewJob:
        wanted, mistakes = read_video(body, form)
        # A field that could not be read is not also missing.
        unread = {top(problem.field) for problem in problems}
        problems += [mistake for mistake in mistakes if top(mistake.field) not in unread]
        problems += notify_problems("callback_url", wanted.callback_url, self._allowed)
        request = wanted.video_request(wanted.model or DEFAULT_MODEL)
        problems += options_problems(request, sent=wanted.extras, within="provider_options")
        try:
            provider = await self._routing.provider_for(request.model, wanted=wanted.provider, own=_OWN)
        except RefusalError as refusal:
            raise invalid_request([*problems, *refusal.problems]) from None
        if provider == _OWN and request.duration is None:
            request = replace(request, duration=_DEFAULT_SECONDS)
        wrong = {top(problem.field) for problem in problems}
        if wanted.model is None and provider != _OWN and "model" not in wrong:
            problems.append(
                Problem(
                    "model", f"is required, and must be the name of a model of {provider}; GET /v1/models lists them"
                )
            )
        # Of a field that is wrong anyway, the provider was not shown what was sent.
        told = (wanted.told_here(problem) for problem in self._providers[provider].problems(request))
        problems += [problem for problem in told if top(problem.field) not in wrong]
        if problems:
            raise invalid_request(problems)
        secret = wanted.callback_secret
        return NewJob(
            caller.tenant,
            provider,
            request,
            OnUnknown(wanted.on_unknown or OnUnknown.WAIT),
            wanted.metadata,
            face=Face.OPENAI,
            notify_url=wanted.callback_url,
            notify_secret=None if secret is None else self._vault.seal(secret, caller.tenant),
        )

    def _accepted(self, job: Job, headers: dict[str, str]) -> Response:
        return self._shown(job, 202, {"location": self._forms.url(job), **headers})

    def _shown(self, job: Job, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
        """Answer with a video, and with when to look again, which the SDK's poll loop obeys."""
        again = {} if job.state.final else {"openai-poll-after-ms": str(self._poll_after_ms(job))}
        return JSONResponse(self._forms.video(job), status, {**(headers or {}), **again})

    def _poll_after_ms(self, job: Job) -> int:
        soonest, latest = _POLL_AFTER_MS
        if job.state is State.MIRRORING:
            return soonest
        if job.state is not State.RUNNING or job.due_at is None:
            return latest
        return min(max(job.due_at - self._clock.now(), soonest), latest)


def _job_id(text: str) -> str:
    if not is_job_id(text):
        raise ValueError("must be the id of a video, for example the last_id of the page before")
    return text


_PAGE: Mapping[str, Callable[[str], Any]] = {
    "after": _job_id,
    "limit": as_limit,
    "order": partial(as_one_of, ("asc", "desc")),
}
_CONTENT: Mapping[str, Callable[[str], Any]] = {
    "variant": partial(as_one_of, ("video", "thumbnail", "spritesheet")),
    "index": as_index,
    "redirect": as_switch,
}
