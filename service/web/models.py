"""What can be asked for: the models of all configured providers, in the dialect of each face.

Both lists are read from what was last heard, so a provider that is down changes nothing. One that never answered since
the first start has no models here: until then the lists are empty, and its models can be asked for all the same.

Sources: OpenRouter's API reference and SDKs (VideoModel), OpenAI's (Model), LLM Gateway's public catalogue.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from service.model import Model
from service.store import Catalogue
from service.web import ranges
from service.web.answers import JSONResponse
from service.web.callers import Callers
from service.web.refusals import RefusalError, shown

_OPENROUTER = "openrouter"
_LLMGATEWAY = "llmgateway"
_CACHED = "private, max-age=60"


class Models:
    """Lists models to callers. `providers` are the names of those that are configured."""

    def __init__(self, catalogue: Catalogue, callers: Callers, providers: Collection[str]) -> None:
        self._catalogue = catalogue
        self._callers = callers
        self._providers = frozenset(providers)

    async def openrouter(self, request: Request) -> Response:
        """List the models as OpenRouter does: `{"data": [VideoModel…]}`."""
        await self._callers.caller(request)
        offered = await self._offered(_OPENROUTER)
        return _answer(request, {"data": [openrouter_form(model) for model in offered.values()]})

    async def openai(self, request: Request) -> Response:
        """List the models as OpenAI does, with what LLM Gateway's catalogue says beyond that."""
        await self._callers.caller(request)
        offered = await self._offered(_LLMGATEWAY)
        return _answer(request, {"object": "list", "data": [openai_form(model) for model in offered.values()]})

    async def openai_one(self, request: Request) -> Response:
        """Show the model that the path names; its id may hold slashes. Raises RefusalError (404)."""
        await self._callers.caller(request)
        model = (await self._offered(_LLMGATEWAY)).get(request.path_params["id"])
        if model is None:
            raise RefusalError(
                404,
                "model_not_found",
                f"No provider of this service lists the model {shown(request.path_params['id'])!r}; "
                "GET /v1/models lists those that there are.",
            )
        return _answer(request, openai_form(model))

    async def _offered(self, own: str) -> dict[str, Model]:
        """Return every model by its id; where several providers have one, that of the dialect's `own` provider."""
        offered: dict[str, Model] = {}
        for model in await self._catalogue.models():
            if model.provider in self._providers and (model.provider == own or model.id not in offered):
                offered[model.id] = model
        return offered


def openrouter_form(model: Model) -> dict[str, Any]:
    """Return a VideoModel with every key that OpenRouter's SDKs require.

    OpenRouter's own entry is passed on. A value in it of a type that an SDK cannot read becomes null, or is left out if
    it is optional: otherwise one odd entry would break the list for everybody.
    """
    entry = model.entry if model.provider == _OPENROUTER else _common(model)
    optional = {key: read(entry[key]) for key, read in _OPTIONAL.items() if key in entry}
    nullable = {key for key in ("hugging_face_id", "pricing_skus") if key in entry and entry[key] is None}
    return {
        **{key: value for key, value in entry.items() if key not in _OPTIONAL},
        "id": model.id,
        "canonical_slug": _text(entry.get("canonical_slug")) or model.id,
        "name": model.name,
        "created": model.created or 0,
        **{key: read(entry.get(key)) for key, read in _NULLABLE.items()},
        "allowed_passthrough_parameters": _texts(entry.get("allowed_passthrough_parameters")) or [],
        **{key: value for key, value in optional.items() if value is not None or key in nullable},
    }


def openai_form(model: Model) -> dict[str, Any]:
    """Return a Model of OpenAI's with the keys of LLM Gateway's catalogue, whose own entries are passed on."""
    own = model.provider == _LLMGATEWAY
    family = _text(model.entry.get("family")) if own else model.id.partition("/")[0]
    entry = model.entry if own else _gateway_entry(model, family or model.provider)
    return {
        **entry,
        "id": model.id,
        "object": "model",
        "created": model.created or 0,
        "owned_by": family or model.provider,
    }


def _common(model: Model) -> dict[str, Any]:
    """Return what is known of another provider's model under OpenRouter's names."""
    said: dict[str, Any] = {
        "supported_resolutions": _listed(model.resolutions),
        "supported_aspect_ratios": _listed(model.aspect_ratios),
        "supported_sizes": _listed(model.sizes),
        "supported_durations": _listed(model.durations),
        "generate_audio": model.generate_audio,
    }
    return said if model.description is None else {**said, "description": model.description}


def _gateway_entry(model: Model, family: str) -> dict[str, Any]:
    """Return what is known of another provider's model under LLM Gateway's names, with every key that it requires.

    The prices that it requires are those of tokens and pictures, which are nothing for videos there, too.
    """
    pricing = {"prompt": "0", "completion": "0"}
    behind: dict[str, Any] = {"providerId": model.provider, "externalId": model.id}
    if model.sizes is not None:
        behind["supportedVideoSizes"] = list(model.sizes)
    if model.generate_audio is not None:
        behind["supportsVideoAudio"] = model.generate_audio
    cannot = dict.fromkeys(("streaming", "vision", "cancellation", "tools", "parallelToolCalls", "reasoning"), False)
    entry: dict[str, Any] = {"id": model.id, "name": model.name, "family": family}
    if model.description is not None:
        entry["description"] = model.description
    entry |= {
        "architecture": {"input_modalities": ["text"], "output_modalities": ["video"]},
        "top_provider": {"is_moderated": True},
        "providers": [behind | cannot],
        "pricing": pricing,
        "json_output": False,
        "structured_outputs": False,
    }
    if model.durations:
        entry["per_request_limits"] = {"max_video_duration_seconds": str(max(model.durations))}
    return entry


def _answer(request: Request, content: object) -> Response:
    """Answer with a tag, so that who has it already is sent nothing."""
    response = JSONResponse(content)
    tag = f'"{hashlib.sha256(response.body).hexdigest()[:32]}"'
    headers = {"etag": tag, "cache-control": _CACHED}
    if ranges.known(request.headers, tag):
        return Response(status_code=304, headers=headers)
    response.headers.update(headers)
    return response


def _listed(values: Iterable[object] | None) -> list[object] | None:
    return None if values is None else list(values)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _texts(value: object) -> list[object] | None:
    return value if isinstance(value, list) and all(isinstance(each, str) for each in value) else None


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _numbers(value: object) -> list[object] | None:
    return value if isinstance(value, list) and all(_whole(each) for each in value) else None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _extent(value: object) -> Mapping[str, object] | None:
    """Return `{"min", "max"}`, either of which may be missing or null."""
    if not isinstance(value, dict):
        return None
    ends = (value.get("min"), value.get("max"))
    return value if all(end is None or _whole(end) or isinstance(end, float) for end in ends) else None


def _prices(value: object) -> dict[str, str] | None:
    """Return prices as the text that the SDKs want; they lose those that are numbers."""
    if not isinstance(value, dict):
        return None
    usable = ((key, price) for key, price in value.items() if isinstance(price, str | int | float))
    return {key: str(price) for key, price in usable if not isinstance(price, bool)}


_NULLABLE: Mapping[str, Callable[[object], object]] = {
    "supported_resolutions": _texts,
    "supported_aspect_ratios": _texts,
    "supported_sizes": _texts,
    "supported_durations": _numbers,
    "supported_frame_images": _texts,
    "generate_audio": _flag,
    "seed": _flag,
    "upscale_factor": _extent,
    "creativity": _numbers,
}
_OPTIONAL: Mapping[str, Callable[[object], object]] = {
    "description": _text,
    "hugging_face_id": _text,
    "pricing_skus": _prices,
}
