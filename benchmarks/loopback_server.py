"""A loopback server that speaks Chat Completions, answers after a known delay, and does little else.

What it sends is what OpenAI documents for a streamed answer: a chunk with the role, pieces of text, a
chunk with the finish reason, one with the usage, ``[DONE]``; who does not ask for a stream gets the
answer as one object. Run it as a process of its own, so that
its CPU time is not the client's: ``python benchmarks/loopback_server.py DELAY_MS`` prints its port.
"""

from __future__ import annotations

import asyncio
import json
import sys

ANSWER = '{"intent":"QUESTION","handler":"self","asked":"x","confidence":80}'
PIECES = (ANSWER[:20], ANSWER[20:45], ANSWER[45:])
MODEL = "loopback"
_USAGE = {"prompt_tokens": 400, "completion_tokens": 20, "total_tokens": 420}


def _event(**content: object) -> bytes:
    whole = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": MODEL,
        **content,
    }
    return b"data: " + json.dumps(whole).encode() + b"\n\n"


def _delta(delta: dict[str, str], finish: str | None = None) -> bytes:
    return _event(choices=[{"index": 0, "delta": delta, "finish_reason": finish}])


STREAM = b"".join(
    [
        _delta({"role": "assistant", "content": ""}),
        *(_delta({"content": piece}) for piece in PIECES),
        _delta({}, "stop"),
        _event(choices=[], usage=_USAGE),
        b"data: [DONE]\n\n",
    ]
)
WHOLE = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": ANSWER},
                "finish_reason": "stop",
            }
        ],
        "usage": _USAGE,
    }
).encode()
LISTING = json.dumps(
    {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 1, "owned_by": "me"}]}
).encode()


def _reply(kind: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n%s" % (
        kind,
        len(body),
        body,
    )


class _Connection(asyncio.Protocol):
    """One connection: requests in, the same answer out, each after the delay."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._heard = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._heard += data
        while (end := self._heard.find(b"\r\n\r\n")) >= 0:
            head = self._heard[:end].lower()
            length = 0
            if (at := head.find(b"content-length:")) >= 0:
                length = int(head[at + 15 :].split(b"\r\n", 1)[0])
            if len(self._heard) < end + 4 + length:
                return
            body = self._heard[end + 4 : end + 4 + length]
            self._heard = self._heard[end + 4 + length :]
            streamed = b'"stream":true' in body.replace(b": ", b":")
            if head.startswith(b"get"):
                self._transport.write(_reply(b"application/json", LISTING))
            elif self._delay_s:
                asyncio.get_running_loop().call_later(self._delay_s, self._answer, streamed)
            else:
                self._answer(streamed)

    def _answer(self, streamed: bool) -> None:
        if not self._transport.is_closing():
            if streamed:
                self._transport.write(_reply(b"text/event-stream", STREAM))
            else:
                self._transport.write(_reply(b"application/json", WHOLE))


async def serve(delay_s: float) -> None:
    """Serve on a free port, which is printed, until the process ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(delay_s), "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1]) / 1000))
