"""What is sent to us: the schemas of the forms that really read it, and an example of each."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pydantic.json_schema import models_json_schema

from service.web.actions import AttachBody
from service.web.keys import KeyBody
from service.web.openai_forms import VideoBody, VideoForm
from service.web.openapi.shapes import Schema, record, ref, several, text, whole
from service.web.openrouter_forms import OpenRouterBody
from service.web.receivers import RedeliverBody
from service.web.requests import CreateBody

_FORMS = (CreateBody, AttachBody, KeyBody, OpenRouterBody, VideoBody, VideoForm, RedeliverBody)
_URLS = {"url", "first_frame", "last_frame", "notify_url", "callback_url"}
_NULL: Schema = {"type": "null"}
_FILE = text("a PNG, JPEG, WebP or GIF file", format="binary")
_JSON = "application/json"


def _media(key: str) -> list[Schema]:
    url = text("an https:// or data: URL", format="uri")
    return [url, record("", {key: url})]


def _some(one: list[Schema]) -> list[Schema]:
    return [{**several({"anyOf": one}), "maxItems": 20}, *one]


# What a form takes for these is turned into their types before it is read, so it does not know of them.
_ALSO: Mapping[str, list[Schema]] = {
    "seconds": [whole(minimum=1, maximum=3600), text(pattern="^0{0,5}[1-9][0-9]{0,3}$")],
    "n": [{"const": 1}, text(pattern="^0{0,8}1$")],
    "image": _media("image_url"),
    "last_frame": _media("image_url"),
    "reference_images": _some(_media("image_url")),
    "input_reference": _some(_media("image_url")),
    "reference_videos": _some(_media("video_url")),
    "reference_audios": _some(_media("audio_url")),
}
_AS_FILES = {"image": [_FILE], "last_frame": [_FILE], "reference_images": _some([_FILE])} | {
    "input_reference": _some([_FILE])
}


def forms(providers: Collection[str]) -> Mapping[str, Schema]:
    """Return the schemas of everything that is sent, by name; `providers` are those that a body can name."""
    _, generated = models_json_schema(
        [(form, "validation") for form in _FORMS], ref_template="#/components/schemas/{model}"
    )
    found: dict[str, Any] = {name: _tidy(schema) for name, schema in generated["$defs"].items()}
    for form in ("CreateBody", "VideoBody", "VideoForm"):
        found[form]["properties"]["provider"]["anyOf"] = [text(enum=list(providers)), _NULL]
    for form in ("VideoBody", "VideoForm"):
        for name, also in _ALSO.items():
            found[form]["properties"][name]["anyOf"] = [*also, _NULL]
    for name, field in found["VideoForm"]["properties"].items():
        if "anyOf" in field:  # a form has no null, and files beside texts
            field["anyOf"] = [*(each for each in field["anyOf"] if each != _NULL), *_AS_FILES.get(name, [])]
    jobs = {**several(ref("CreateBody"), "each is accepted or refused by itself"), "minItems": 1, "maxItems": 100}
    found["BatchBody"] = record("The JSON object of `POST /v1/jobs/batch`.", {"jobs": jobs})
    found["CallbackBody"] = {"type": "object", "description": "A provider's own message, signed over its bytes."}
    return found


def body(name: str, example: Mapping[str, Any], *, form: str | None = None) -> Schema:
    """Return a request body that is JSON, or also a multipart `form` of the same fields."""
    content: dict[str, Any] = {_JSON: {"schema": ref(name), "example": example}}
    if form is not None:
        nested = {each: {"style": "deepObject", "explode": True} for each in ("metadata", "provider_options")}
        content["multipart/form-data"] = {"schema": ref(form), "encoding": nested}
    return {"required": True, "content": content}


_KITE = {"model": "google/veo-3.1", "prompt": "a red kite", "duration": 4}

CREATE = body("CreateBody", _KITE)
BATCH = body("BatchBody", {"jobs": [_KITE]})
REDELIVER = body("RedeliverBody", {"receiver": "https://backend.example.com"})
ATTACH = body("AttachBody", {"provider_job_id": "gen-1a2b3c"})
KEY = body("KeyBody", {"name": "my-backend", "tenant": "studio"})
OPENROUTER_CREATE = body("OpenRouterBody", _KITE)
OPENAI_CREATE = body(
    "VideoBody",
    {"model": "veo-3.1-generate-preview", "prompt": "a red kite", "seconds": "4"},
    form="VideoForm",
)
CALLBACK = body(
    "CallbackBody", {"type": "video.generation.completed", "data": {"id": "gen-vid-1", "status": "completed"}}
)


def _tidy(schema: object, name: str = "") -> Any:  # noqa: ANN401 - whatever a schema holds
    """Leave out what pydantic adds for nobody, and say which texts are URLs."""
    if isinstance(schema, list):
        return [_tidy(each, name) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if key != "title" and (key != "default" or value is not None)}
    if name in _URLS and kept.get("type") == "string":
        kept["format"] = "uri"
    if "properties" in kept:
        kept["properties"] = {key: _tidy(value, key) for key, value in kept["properties"].items()}
    return {key: value if key == "properties" else _tidy(value, name) for key, value in kept.items()}
