"""The form of an answer in JSON."""

from __future__ import annotations

from starlette import responses


class JSONResponse(responses.JSONResponse):
    """JSON that ends with a newline, so that a shell's prompt stands below it."""

    def render(self, content: object) -> bytes:
        """Return the bytes of the answer."""
        return super().render(content) + b"\n"
