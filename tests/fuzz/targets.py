"""The table of parsers: what reads strangers' bytes, which errors it documents, and what proves it beside this."""

from __future__ import annotations

from service import signing
from service.errors import BadCallbackError, BadOutputError, BadSignatureError, OutputError
from service.web.refusals import RefusalError
from tests.fuzz import outer, seeds, web, wires
from tests.fuzz.running import Target

_NOW = 1_795_248_512_000
_KEY = b"whsec_test_secret"


def _text(data: bytes) -> str:
    return data.decode("latin-1")  # as Starlette reads headers


def _openrouter_signature(data: bytes) -> None:
    header, _, body = data.partition(b"\n")
    signing.verify_openrouter([_KEY], _text(header), body, _NOW)


def _standard_signature(data: bytes) -> None:
    names = (signing.WEBHOOK_ID, signing.WEBHOOK_TIMESTAMP, signing.WEBHOOK_SIGNATURE)
    given = data.split(b"\n", 3)
    headers = {name: _text(value) for name, value in zip(names, given, strict=False)}
    signing.verify_standard([_KEY], headers, given[3] if len(given) > 3 else b"", _NOW)


_GENUINE = signing.sign_openrouter(_KEY, b"{}", _NOW).encode() + b"\n{}"

TARGETS = (
    Target(
        "openrouter-signature", "X-OpenRouter-Signature: signing.verify_openrouter", _openrouter_signature,
        [_GENUINE, b"t=1795248512,v1=abc,v0=x\n{}"], (BadSignatureError,), "test_signing",
    ),
    Target(
        "standard-signature", "webhook-id, -timestamp, -signature: signing.verify_standard", _standard_signature,
        seeds.GATEWAY_SIGNATURES, (BadSignatureError,), "test_signing",
    ),
    Target(
        "openrouter-callback", "a rightly signed body: OpenRouter.receive", wires.openrouter_callback,
        seeds.OPENROUTER_CALLBACKS, (BadCallbackError,),
        "providers/test_openrouter_reports, web/test_callbacks_of_strangers",
    ),
    Target(
        "llmgateway-callback", "a rightly signed body: LLMGateway.receive", wires.llmgateway_callback,
        seeds.GATEWAY_CALLBACKS, (BadCallbackError,), "providers/test_llmgateway_reports",
    ),
    Target("openrouter-answers", "answers to submit, poll and models of OpenRouter", wires.openrouter_answers,
           [b"\0" + each for each in seeds.OPENROUTER_ANSWERS] + [b"\2" + each for each in seeds.MODELS]),
    Target("llmgateway-answers", "answers to submit, poll and models of LLM Gateway", wires.llmgateway_answers,
           [b"\0" + each for each in seeds.GATEWAY_ANSWERS] + [b"\2" + each for each in seeds.MODELS]),
    Target(
        "answer-head", "heads of answers on the wire: outbound.connections, h11", wires.answer_head,
        [b"HTTP/1.1 103 E\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
         b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b\r\nx\r\n0\r\nT: x\r\n\r\n"],
    ),
    Target("retry-after", "Retry-After, retry-after-ms, x-ratelimit-reset: outbound.retry_after_ms", wires.retry_after,
           [b"1.5", b"Sat, 21 Nov 2026 08:10:02 GMT", b"-1", b"9" * 30], elsewhere="test_outbound"),
    Target("location", "Location of a redirect: outbound.open_download", wires.location,
           [b"https://cdn.example/v.mp4?x=y", b"/there", b"//h:1/", b"https://xn--a/", b"https://[::1]:9/"],
           (OutputError,), "test_outbound"),
    Target("json-object", "a body as JSON: web.body.parse_object", web.json_object,
           seeds.CREATES + seeds.GATEWAY_CALLBACKS, (RefusalError,), "web/test_body"),
    Target("create", "the bodies of all faces: NewJobs, openai_forms, openrouter_forms", web.create,
           seeds.CREATES, (RefusalError,), "web/test_body, web/test_jobs"),
    Target("form", "multipart/form-data: web.forms.read_form", web.form,
           seeds.FORMS, (RefusalError,), "web/test_forms"),
    Target("request", "requests on the wire: web.heads, httptools, uvicorn", web.request_on_the_wire,
           seeds.REQUESTS, elsewhere="web/test_heads"),
    Target("whole-app", "path, query, headers and body of any request: never a 5xx", web.whole_app, web.APP_SEEDS,
           elsewhere="web/test_callbacks_of_strangers, schemathesis in web/test_openapi_answers"),
    Target("range", "Range, If-Range, If-Match, If-None-Match: web.ranges", web.ranges,
           [b'bytes=0-1\n"a"', b"bytes=-5,7-\n*", b'bytes=9-\nW/"a", "b"'], (RefusalError,), "web/test_ranges"),
    Target("filters", "the queries of lists, cursors among them: web.filters", web.filters,
           [b"state=failed&limit=5&created_after=2026-11-21T10:00:00Z", b"cursor=MTpqb2Jf", b"index=1&redirect=no"],
           (RefusalError,)),
    Target("events", "Last-Event-ID, after and Accept: web.events", web.events,
           [b"after=3\n7\ntext/event-stream", b"\n0\n*/*;q=0, text/event-stream;q=0.0"], (RefusalError,)),
    Target("credentials", "Authorization, x-api-key, tokens of callbacks and names of jobs", web.credentials,
           [b"Bearer rk_x\n\n", b"\nrk_y\njob_01k8z6v9n4e8r2m5t7w0x3y6za"], (RefusalError,), "test_vault"),
    Target("notify-url", "where a caller wants to be told: web.notify.notify_problems", web.notify_url,
           [b"https://example.com/h", b"https://127.1/", b"http://[::1]:9/", b"https://a%2e@b:0/"],
           elsewhere="web/test_notify"),
    Target("video", "the bytes of a video: containers.sniff and Structure", outer.video, seeds.VIDEO_FILES,
           (BadOutputError,), "test_containers"),
    Target("media-child", "what the process that decodes says: media.Examiner", outer.media_child,
           [b'footage {"duration_ms": 2000, "width": 320, "height": 180, "codec": "h264"}\nposter 4\n\xff\xd8\xff\0',
            b"read 0 10\nnothing x\n"], elsewhere="media/test_child"),
    Target("log", "strangers' words on their way to the log: logs.redact", outer.log,
           [b'https://u:p@h/p?s=x Bearer abcdefgh sk-abcdefgh "api_key": "x"', b"/callbacks/a/b/c authorization: x"],
           elsewhere="test_logs"),
)  # fmt: skip
