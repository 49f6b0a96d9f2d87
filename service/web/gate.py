"""What every request passes: it gets an id, an answer whatever happens, and one line in the log."""

from __future__ import annotations

import re
import time

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from service.clock import Clock
from service.errors import (
    BadCallbackError,
    BadSignatureError,
    CallbackError,
    LookTooLongError,
    StorageError,
    StoreUnavailableError,
)
from service.ids import Ids
from service.logs import redact
from service.observer import Answered, Observer
from service.web.refusals import RefusalError

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)
_CLIENT_LEFT = 499  # nobody sees it; nginx made it the word for this in logs


class Gate:
    """Lets a request in, answers for whoever cannot, writes its line, and tells `observer` how it ended."""

    def __init__(self, app: ASGIApp, *, log: FilteringBoundLogger, ids: Ids, clock: Clock, observer: Observer) -> None:
        self._app = app
        self._log = log
        self._ids = ids
        self._clock = clock
        self._observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun_at, begun = self._clock.now(), time.perf_counter()
        request_id = self._request_id(scope)
        about: dict[str, str] = {}
        made: list[str] = []
        cause: dict[str, object] = {}
        tell = self._log.info
        scope.setdefault("state", {}).update(about=about, made=made)
        status = size = 0
        waited: float | None = None

        async def send_on(message: Message) -> None:
            nonlocal status, size, waited
            if message["type"] == "http.response.start":
                status, waited = message["status"], time.perf_counter() - begun
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            size += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        except ClientDisconnect:
            pass  # nobody is there to be answered
        except Exception as error:  # noqa: BLE001 - whatever it was, the caller gets an answer and the log the cause
            response = answer_to(error, scope["path"])
            cause = _cause(error)
            if isinstance(error, CallbackError | LookTooLongError):
                # Somebody forges, or a secret here is not the provider's; or somebody looks for too much.
                tell = self._log.warning
            elif not isinstance(error, RefusalError):
                tell = self._log.error
            if not status:
                await response(scope, receive, send_on)
            # An answer that had begun stays unfinished: the server breaks the connection, and nobody takes it as whole.
        finally:
            status = status or _CLIENT_LEFT  # also when we stop before the answer
            seconds = time.perf_counter() - begun
            route = getattr(scope.get("route"), "path", "")
            tell(
                "web.request",
                request_id=request_id,
                method=scope["method"],
                path=redact(scope["path"]),
                route=route,
                status=status,
                ms=round(seconds * 1000, 1),
                bytes=size,
                **cause | about,
            )
            waited = seconds if waited is None else waited
            self._observer.answered(
                Answered(scope["method"], route, status, begun_at, seconds, about.get("job"), waited, tuple(made))
            )

    def _request_id(self, scope: Scope) -> str:
        given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-request-id"]
        return given[0] if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]) else self._ids.new("req")


def _cause(error: Exception) -> dict[str, object]:
    """Return what the log is told of an error: of a fault of ours all that there is."""
    match error:
        case RefusalError():
            return {"reason": error.code}
        case CallbackError() | LookTooLongError() | StoreUnavailableError() | StorageError():
            return {"error": redact(str(error)), "kind": type(error).__name__}
        case _:
            return {"kind": type(error).__name__, "exc_info": error}


def answer_to(error: Exception, path: str = "") -> Response:
    """Return the answer to an error, as clients of `path` read it; what nobody expected is told to the log alone."""
    return refusal_of(error).response(path)


def refusal_of(error: Exception) -> RefusalError:  # noqa: PLR0911 - one for each kind of error
    """Return what is told about an error."""
    match error:
        case RefusalError():
            return error
        case BadSignatureError():
            return RefusalError(401, "bad_signature", _sentence(error))
        case BadCallbackError():
            return RefusalError(400, "bad_callback", _sentence(error))
        case StoreUnavailableError():
            return _try_again("store_unavailable", "The database could not take it, so nothing was kept")
        case LookTooLongError():
            return RefusalError(503, "took_too_long", f"Not found out: {error}.", headers={"retry-after": "5"})
        case StorageError():
            return _try_again("storage_unavailable", "The object storage does not answer")
        case _:
            message = "The service made a mistake, which is in its log under the x-request-id of this answer."
            return RefusalError(500, "internal", message)


def _try_again(code: str, what: str) -> RefusalError:
    return RefusalError(503, code, f"{what}; send the request again in a few seconds.", headers={"retry-after": "5"})


def _sentence(error: Exception) -> str:
    return f"The callback is rejected: {error}."
