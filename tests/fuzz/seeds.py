"""Genuine inputs to begin with: what was captured from providers, and what other tests hold true."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from service.sandbox.downloads import VIDEOS, WEBM
from tests.test_containers import GOOD

_CAPTURED = json.loads((Path(__file__).parent.parent / "data" / "llmgateway.json").read_text())

GATEWAY_CALLBACKS = [base64.b64decode(each["body_b64"]) for each in _CAPTURED["accept"]]
GATEWAY_ANSWERS = [each["body_text"].encode() for each in _CAPTURED["api_samples"] if each.get("body_text")]
GATEWAY_SIGNATURES = [
    "\n".join((each["webhook_id"], each["webhook_timestamp"], each["webhook_signature"])).encode()
    for each in _CAPTURED["accept"]
]
_JOB = {
    "id": "gen-1", "status": "completed", "model": "google/veo-3.1", "urls": ["https://cdn.example/0.mp4?sig=x"],
    "unsigned_urls": ["https://openrouter.ai/0"], "usage": {"cost": 0.25}, "expires_at": 1795255200, "error": None,
}  # fmt: skip
_REFUSAL = {"error": {"code": 400, "message": "no", "metadata": {"error_type": "moderation"}}, "user_id": "u"}
OPENROUTER_ANSWERS = [
    json.dumps(each).encode() for each in (_JOB, {**_JOB, "status": "failed", "error": "nsfw"}, _REFUSAL)
]
OPENROUTER_CALLBACKS = [
    json.dumps({"type": f"video.generation.{word}", "created_at": 1, "data": {**_JOB, "status": word}}).encode()
    for word in ("completed", "failed", "expired", "in_progress")
] + [b'{"type": "batch.completed", "data": {}}']
MODELS = [
    json.dumps({"data": [{
        "id": "google/veo-3.1", "name": "Veo", "description": "d", "created": 1795255200,
        "supported_sizes": ["1280x720"], "supported_resolutions": ["720p"], "supported_aspect_ratios": ["16:9"],
        "supported_durations": [4, 8], "generate_audio": True, "pricing": {"x": "https://u:p@h/"},
        "architecture": {"output_modalities": ["video"]},
        "providers": [{"supportedVideoSizes": ["1280x720"], "supportsVideoAudio": True}],
    }]}).encode()
]  # fmt: skip
CREATES = [
    json.dumps(each).encode()
    for each in (
        {"model": "m", "prompt": "a cat", "duration": 5, "aspect_ratio": "16:9", "resolution": "720p", "seed": 7,
         "references": [{"type": "image", "url": "https://example.com/a.png"}], "metadata": {"a": 1},
         "provider_options": {"x": [1, {"y": None}]}, "notify_url": "https://example.com/h", "on_unknown": "wait"},
        {"model": "m", "prompt": "p", "seconds": "4", "size": "1280x720",
         "input_reference": {"image_url": "https://x"}, "callback_url": "https://example.com/h",
         "callback_secret": "whsec_c2VjcmV0c2VjcmV0c2VjcmV0", "audio": True},
        {"model": "m", "provider": {},
         "frame_images": [{"type": "image_url", "image_url": {"url": "https://x"}, "frame_type": "first_frame"}],
         "input_references": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]},
    )
]  # fmt: skip
_PART = b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
FORMS = [
    _PART % (b"prompt", b"a cat") + _PART % (b"a[0][b]", b"1") + _PART % (b"a[1][c]", b"2") + b"--b--\r\n",
    _PART % (b"x[][y]", b"1") + _PART % (b"x[][y]", b"2") + b"--b--\r\n",
    (
        b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
        b"\x89PNG\r\n\x1a\n\r\n--b--\r\n"
    ),
]
REQUESTS = [
    b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /callbacks/openrouter/job_1/t HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}GET / HTTP/1.1\r\n\r\n",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n1\r\nx\r\n0\r\nA: b\r\n\r\n",
    b"GET http://a/b?c=d HTTP/1.0\r\nConnection: keep-alive, Upgrade\r\nUpgrade: h2c\r\n\r\n",
]
VIDEO_FILES = [b"\0" + file for _, file in GOOD] + [b"\1" + each[:20_000] for each in (*VIDEOS, WEBM)]
