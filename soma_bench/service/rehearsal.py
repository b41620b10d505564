"""Requests before the first one, so that no client waits for what is made when it is first used.

They reach the API behind its door, so that nothing counts or logs them, and are refused or answered
without a session or a model.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.types import ASGIApp, Message, Scope

_NO_PICTURE = {"final_image": "AAAA", "metadata": {"masks": [{}]}, "clinicalContext": {}}
_REQUESTS: tuple[tuple[str, str, Any], ...] = (
    ("GET", "/openapi.json", None),
    *(
        (method, prefix + path, content)
        for prefix in ("", "/api")
        for method, path, content in (
            ("POST", "/medical_report_init", _NO_PICTURE),
            ("POST", "/medical_report_stream", _NO_PICTURE),
            ("POST", "/chat_stream", {}),
            ("POST", "/medical_report_rein", {}),
            ("GET", "/session/none", None),
            ("DELETE", "/session/none", None),
        )
    ),
)


async def rehearse(api: ASGIApp) -> None:
    """Put some requests to an API and throw its answers away."""
    for method, path, content in _REQUESTS:
        body = b"" if content is None else json.dumps(content).encode()
        await _ask(api, method, path, body)


async def _ask(api: ASGIApp, method: str, path: str, body: bytes) -> None:
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        "client": None,
        "server": None,
        "state": {},
    }
    coming: asyncio.Queue[Message] = asyncio.Queue()
    coming.put_nowait({"type": "http.request", "body": body, "more_body": False})

    async def send(message: Message) -> None:
        pass

    await api(scope, coming.get, send)
