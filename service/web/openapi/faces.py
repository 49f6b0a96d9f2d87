"""The calls of the compatible faces, in the words of the README."""

from __future__ import annotations

from collections.abc import Sequence

from service.web.openapi import bodies, parameters
from service.web.openapi.operations import (
    CALL,
    FOUND,
    MADE,
    MAKING,
    MATCH,
    OPENAI,
    OPENROUTER,
    REUSED,
    SEEN,
    Operation,
    content,
)
from service.web.openapi.responses import CREATED, answered, bare


def openrouter(providers: Sequence[str]) -> list[Operation]:
    """Return the calls of OpenRouter's dialect, where a header can name one of `providers`."""
    videos = "/api/v1/videos"
    shown = "VideoGenerationResponse"
    return [
        Operation(
            "POST",
            videos,
            "openrouterCreateVideo",
            OPENROUTER,
            "Create",
            {202: answered("It is on disk; nothing was spent before.", shown, told=CREATED)},
            MADE,
            (*CALL, parameters.named_provider(providers)),
            bodies.OPENROUTER_CREATE,
            {**MAKING, 409: f"{REUSED} Or the job that is continued is not ready (`previous_job_not_ready`)."},
        ),
        Operation(
            "GET",
            f"{videos}/models",
            "openrouterListModels",
            OPENROUTER,
            "The models of the configured providers",
            {200: answered("The models.", "OpenRouterModelList", told=("etag",)), 304: bare("You have them.", 304)},
            SEEN,
            ("If-None-Match",),
        ),
        Operation(
            "GET",
            f"{videos}/{{job_id}}",
            "openrouterReadVideo",
            OPENROUTER,
            "Read",
            {200: answered("The job, whichever face it came through.", shown)},
            FOUND,
            ("job_id",),
        ),
        *content(f"{videos}/{{job_id}}/content", "openrouterReadContent", OPENROUTER, ("index", "redirect")),
    ]


def openai(providers: Sequence[str]) -> list[Operation]:
    """Return the calls of the OpenAI-style dialect, where a header can name one of `providers`."""
    video, soon = "/v1/videos/{job_id}", ("openai-poll-after-ms",)
    models = answered("The models.", "ModelList", told=("etag",))
    listed = {200: models, 304: bare("You have them.", 304)}
    nothing = [
        ("/v1/videos/edits", "editVideo"),
        ("/v1/videos/extensions", "extendVideo"),
        ("/v1/videos/characters", "createCharacter"),
        (f"{video}/remix", "remixVideo"),
    ]
    return [
        Operation(
            "POST",
            "/v1/videos",
            "createVideo",
            OPENAI,
            "Create, as JSON or as a form",
            {202: answered("It is on disk; nothing was spent before.", "Video", told=(*CREATED, *soon))},
            MADE,
            (*CALL, parameters.named_provider(providers)),
            bodies.OPENAI_CREATE,
            MAKING,
        ),
        Operation(
            "GET",
            "/v1/videos",
            "listVideos",
            OPENAI,
            "List, newest first unless `order` says otherwise",
            {200: answered("A page of videos, whatever face they were asked for by.", "VideoList")},
            (400, *SEEN),
            (parameters.AFTER_VIDEO, "limit", parameters.ORDER),
        ),
        Operation(
            "GET",
            video,
            "readVideo",
            OPENAI,
            "Read",
            {200: answered("The video.", "Video", told=soon)},
            FOUND,
            ("job_id",),
        ),
        Operation(
            "DELETE",
            video,
            "deleteVideo",
            OPENAI,
            "Forget a job that has ended, and remove its video",
            {200: answered("It is gone.", "VideoDeleted")},
            (409, *FOUND),
            ("job_id",),
            meaning={409: "The job has not ended yet (`not_final`)."},
        ),
        *content(f"{video}/content", "readVideoContent", OPENAI, ("variant", "index", "redirect"), also=(501,)),
        *(
            Operation(
                "POST",
                path,
                name,
                OPENAI,
                "Not offered; ask for a new video",
                {},
                (404,),
                ("job_id",) if "{" in path else (),
                meaning={404: "No provider makes these (`not_supported`)."},
                keyless=True,
            )
            for path, name in nothing
        ),
        *(
            Operation("GET", path, name, OPENAI, "The models of the configured providers", listed, SEEN, MATCH)
            for path, name in (("/v1/models", "listModels"), ("/v1/videos/models", "listVideoModels"))
        ),
        Operation(
            "GET",
            "/v1/models/{id}",
            "readModel",
            OPENAI,
            "One of them",
            {200: answered("The model.", "Model", told=("etag",)), 304: bare("You have it.", 304)},
            FOUND,
            ("id", *MATCH),
            meaning={404: "No provider lists it (`model_not_found`)."},
        ),
    ]
