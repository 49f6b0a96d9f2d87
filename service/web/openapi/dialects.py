"""What answers of the two compatible faces look like: as OpenRouter, and as OpenAI and LLM Gateway write them."""

from __future__ import annotations

from collections.abc import Mapping

from service.web.openapi.shapes import (
    ANY_OBJECT,
    CODE,
    COST,
    FILE,
    FLAG,
    JOB_ID,
    MESSAGE,
    METADATA,
    PROBLEMS,
    SECONDS,
    URL,
    Schema,
    each,
    listed,
    number,
    one_of,
    or_null,
    record,
    ref,
    several,
    text,
    whole,
)

OPENROUTER: Mapping[str, Schema] = {
    "OpenRouterError": record(
        "OpenRouter's form of an error.",
        {
            "error": record(
                "",
                {
                    "code": whole("the HTTP status"),
                    "message": MESSAGE,
                    "metadata": record("", {"error_type": CODE, "problems": PROBLEMS}, optional=["problems"]),
                },
            )
        },
    ),
    "VideoGenerationResponse": record(
        "A job as OpenRouter shows it; what is not known is left out.",
        {
            "id": JOB_ID,
            "polling_url": URL,
            "status": one_of(("pending", "in_progress", "completed", "failed", "cancelled", "expired")),
            "unsigned_urls": several(URL, "where the kept outputs are read, with your API key"),
            "urls": several(URL, "links to object storage that need no key, until `expires_at`"),
            "expires_at": SECONDS,
            "error": text("why it ended without a video"),
            "usage": record("", {"cost": number("USD")}),
        },
        optional=["unsigned_urls", "urls", "expires_at", "error", "usage"],
    ),
    "OpenRouterModelList": record("Models.", {"data": several(ref("VideoModel"))}),
    "VideoModel": record(
        "A model as OpenRouter lists it: its own entry, or what is known of another provider's model.",
        {
            "id": text(),
            "canonical_slug": text(),
            "name": text(),
            "created": SECONDS,
            "description": text(),
            "hugging_face_id": or_null(text()),
            "supported_resolutions": or_null(several(text())),
            "supported_aspect_ratios": or_null(several(text())),
            "supported_sizes": or_null(several(text())),
            "supported_durations": or_null(several(whole("s"))),
            "supported_frame_images": or_null(several(text())),
            "allowed_passthrough_parameters": several(text()),
            "generate_audio": or_null(FLAG),
            "seed": or_null(FLAG),
            "upscale_factor": or_null(ANY_OBJECT),
            "creativity": or_null(several({"type": "integer"})),
            "pricing_skus": or_null(each(text("USD"))),
        },
        optional=["description", "hugging_face_id", "pricing_skus"],
        more=True,
    ),
}

OPENAI: Mapping[str, Schema] = {
    "OpenAIError": record(
        "OpenAI's and LLM Gateway's form of an error.",
        {
            "error": record(
                "",
                {
                    "message": MESSAGE,
                    "type": text("the kind of error", examples=["invalid_request_error"]),
                    "param": or_null(text("the first field that is wrong")),
                    "code": CODE,
                    "problems": PROBLEMS,
                },
                optional=["problems"],
            )
        },
    ),
    "Video": record(
        "A job as a video object: times in unix s, `seconds` a string, null for what is not known.",
        {
            "id": JOB_ID,
            "object": {"const": "video"},
            "status": one_of(("queued", "in_progress", "completed", "failed")),
            "model": text(),
            "prompt": or_null(text()),
            "progress": whole("a stage, not a forecast", maximum=100),
            "created_at": SECONDS,
            "completed_at": or_null(SECONDS),
            "expires_at": {"type": "null", "description": "the video is kept"},
            "seconds": or_null(text(pattern="^[0-9]+$")),
            "size": or_null(text("WIDTHxHEIGHT in pixels")),
            "error": or_null(ref("JobError")),
            "remixed_from_video_id": {"type": "null"},
            "provider": text(),
            "provider_job_id": or_null(text()),
            "provider_status": or_null(text()),
            "cost": COST,
            "outputs": several(ref("VideoOutput")),
            "metadata": METADATA,
            "content": several(
                record("", {"type": {"const": "video"}, "url": URL, "mime_type": text()}), "of a completed video"
            ),
            "usage": record("", {"cost": number("USD")}),
            "callback": record("", {"url": text("without what may be secret in it")}),
        },
        optional=["content", "usage", "callback"],
    ),
    "VideoOutput": record("A kept output.", {"index": whole(), "url": URL, **FILE}),
    "VideoList": listed("Video", "Videos.", has_more=FLAG, first_id=or_null(JOB_ID), last_id=or_null(JOB_ID)),
    "VideoDeleted": record(
        "It is gone.", {"id": JOB_ID, "object": {"const": "video.deleted"}, "deleted": {"const": True}}
    ),
    "Model": record(
        "A model as OpenAI lists it, with what LLM Gateway's catalogue says beyond that.",
        {"id": text(), "object": {"const": "model"}, "created": SECONDS, "owned_by": text()},
        more=True,
    ),
    "ModelList": listed("Model", "Models."),
}
