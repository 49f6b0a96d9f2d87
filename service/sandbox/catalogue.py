"""What LLM Gateway's `GET /v1/models` lists: its video models by their real names, some others, and the behaviours.

The form is its published schema (keys in its order, left out where it leaves them out), the names are real, and so is
which of them are made by several providers; sizes, prices and dates are the sandbox's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from service.sandbox.behaviours import BEHAVIOURS
from service.sandbox.zod import SIZES

LONGEST_S: Final = 60  # s, of a behaviour's video
_CREATED: Final = 1_767_225_600  # the models' birthday, unix seconds

_HD: Final = ("1280x720", "720x1280", "1920x1080", "1080x1920")
_4K: Final = (*_HD, "3840x2160", "2160x3840")
_SEEDANCE: Final = ("854x480", "480x854", *_HD)
# id -> name, family, the providers behind it, sizes, the longest video in seconds, USD per second by resolution
_VIDEO: Final[Mapping[str, tuple[str, str, Sequence[str], Sequence[str], int, Mapping[str, str]]]] = {
    "veo-3.1-generate-preview": ("Veo 3.1", "google", ("google-vertex", "avalanche"), _4K, 8, {"default": "0.4"}),
    "veo-3.1-fast-generate-preview": ("Veo 3.1 Fast", "google", ("google-vertex",), _4K, 8, {"default": "0.15"}),
    "grok-imagine-video-1-5": ("Grok Imagine Video 1.5", "xai", ("xai",), _HD[:2], 15, {"default": "0.05"}),
    "grok-imagine-video-1-5-preview": ("Grok Imagine Preview", "xai", ("xai",), _HD[:2], 15, {"default": "0.05"}),
    "minimax-hailuo-2-3": ("Hailuo 2.3", "minimax", ("minimax",), ("1366x768", *_HD[2:]), 10, {"768p": "0.05"}),
    "wan-2-6-t2v": ("Wan 2.6", "alibaba", ("alibaba",), _HD, 15, {"720p": "0.1", "1080p": "0.15"}),
    "kling-v3-0": ("Kling 3.0", "kling", ("atlascloud",), _HD, 10, {"default": "0.12"}),
    "kling-v3-0-turbo": ("Kling 3.0 Turbo", "kling", ("atlascloud",), _HD, 10, {"default": "0.08"}),
    "seedance-2-5": ("Seedance 2.5", "bytedance", ("bytedance",), _SEEDANCE, 15, {"720p": "0.1", "1080p": "0.25"}),
    "seedance-2-0": ("Seedance 2.0", "bytedance", ("bytedance",), _SEEDANCE, 15, {"480p": "0.05", "720p": "0.1"}),
    "seedance-2-0-fast": ("Seedance 2.0 Fast", "bytedance", ("bytedance",), _SEEDANCE[:4], 15, {"720p": "0.08"}),
    "seedance-2-0-mini": ("Seedance 2.0 Mini", "bytedance", ("bytedance",), _SEEDANCE[:4], 15, {"720p": "0.04"}),
    "seedance-1-5-pro": ("Seedance 1.5 Pro", "bytedance", ("bytedance",), _SEEDANCE, 12, {"1080p": "0.1"}),
}
# id -> name, family, what comes out
_OTHER: Final = {
    "gpt-4o": ("GPT-4o", "openai", ("text",)),
    "gemini-2.5-flash-image": ("Gemini 2.5 Flash Image", "google", ("text", "image")),
    "text-embedding-3-small": ("Text Embedding 3 Small", "openai", ("embedding",)),
}


def models() -> list[dict[str, Any]]:
    """Return every entry of the list."""
    behaviours = (
        _entry(
            behaviour.model,
            name=f"Sandbox: {behaviour.name}",
            family="sandbox",
            description=behaviour.sentence,
            providers=(_behind("sandbox", behaviour.name, SIZES, {"default": "0.05"}),),
            per_second={"default": "0.05"},
            longest=LONGEST_S,
        )
        for behaviour in BEHAVIOURS.values()
    )
    videos = (
        _entry(
            model_id,
            name=name,
            family=family,
            description=f"{model_id} provided by {', '.join(behind)}",
            providers=[_behind(provider, model_id, sizes, per_second) for provider in behind],
            per_second=per_second,
            longest=longest,
        )
        for model_id, (name, family, behind, sizes, longest, per_second) in _VIDEO.items()
    )
    others = (
        _entry(
            model_id,
            name=name,
            family=family,
            description=f"{model_id} provided by {family}",
            providers=(_behind(family, model_id),),
            output=output,
        )
        for model_id, (name, family, output) in _OTHER.items()
    )
    return [*others, *videos, *behaviours]


def provider_of(asked: str) -> str | None:
    """Return `usedProvider/model`, as a job shows it, for a real video model; asked for alone or with its provider."""
    for model_id, (_, _, behind, *_) in _VIDEO.items():
        named = {f"{provider}/{model_id}": provider for provider in behind}
        if asked == model_id or asked in named:
            return f"{named.get(asked, behind[0])}/{model_id}"
    return None


def _entry(
    model_id: str,
    *,
    name: str,
    family: str,
    description: str,
    providers: Sequence[Mapping[str, Any]],
    output: Sequence[str] = ("video",),
    per_second: Mapping[str, str] | None = None,
    longest: int | None = None,
) -> dict[str, Any]:
    unused: Sequence[str] = ("request", "input_cache_read", "input_cache_write", "web_search", "internal_reasoning")
    limits = {"per_request_limits": {"max_video_duration_seconds": str(longest)}} if longest else {}
    return {
        "id": model_id,
        "name": name,
        "created": _CREATED,
        "description": description,
        "family": family,
        "architecture": {"input_modalities": ["text", "image"], "output_modalities": output, "tokenizer": "GPT"},
        "top_provider": {"is_moderated": True},
        "providers": providers,
        "pricing": _pricing(per_second) | dict.fromkeys(unused, "0"),
        **limits,
        "supported_parameters": [],
        "json_output": False,
        "structured_outputs": False,
        "free": False,
    }


def _behind(
    provider: str, external_id: str, sizes: Sequence[str] = (), per_second: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return a provider of a model; without sizes, of one that makes no videos."""
    video = {"supportedVideoSizes": sizes, "supportsVideoAudio": True, "supportsVideoWithoutAudio": True}
    return {
        "providerId": provider,
        "externalId": external_id,
        **(video if sizes else {}),
        "pricing": _pricing(per_second),
        "streaming": not sizes,
        "vision": True,
        "cancellation": False,
        "tools": False,
        "parallelToolCalls": False,
        "reasoning": False,
        "stability": "stable",
    }


def _pricing(per_second: Mapping[str, str] | None) -> dict[str, Any]:
    tokens = {"prompt": "0", "completion": "0", "image": "0"}
    return tokens if per_second is None else {**tokens, "per_second": per_second}
