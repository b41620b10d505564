"""What decides an answer, as one digest: a trial's key, by which it is stored, found and resumed.

Part of it are the weights, the engine and its chat template, the target, the options, the prompt,
the case, the repeat, and which start of the sweep it is. The reference is none, nor is the scorer:
stored answers are scored again without asking a model. What only decides when to give up, or how
many calls are made at a time, is none either.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

from soma_bench.files import canonical_json
from soma_bench.types import Message, ModelIdentity, Options, Request, Target

KEY_BYTES = 32
_SCHEME = "sha256:"


def describe_request(request: Request) -> dict[str, Any]:
    """A request as JSON values; an image is named by its digest.

    Its limits are left out: they decide when to give up and never what is answered.
    """
    return {
        "model": request.model,
        "messages": _messages(request.messages),
        "max_tokens": request.max_tokens,
        "thinking": request.thinking,
        "schema": request.schema,
        "options": dataclasses.asdict(request.options),
    }


class TrialKeys:
    """Makes the keys of trials that put one prompt to one target.

    A key is the digest of a canonical JSON text. A sweep has many trials whose texts differ in a few
    numbers, so the text is put together from pieces, each of which is made once.

    Args:
        prompt: `prompt_json` of a request with this prompt.
        target: what it is put to.
        model: what the target's model is.
        agent: the agent that asks.
        case: id of the case.
        epoch: how many times the sweep was started anew.
        privacy: ``deidentified`` where placeholders are put in at the call, so that the same request
            asks something else; None otherwise.
    """

    def __init__(
        self,
        prompt: Mapping[str, str],
        target: Target,
        model: ModelIdentity,
        *,
        agent: str,
        case: str,
        epoch: int,
        privacy: str | None,
    ) -> None:
        self._request = {
            **prompt,
            "model": canonical_json(target.model),
            "thinking": canonical_json(target.thinking),
        }
        self._trial = {
            "provider": canonical_json(target.provider),
            "weights": canonical_json(model.weights_digest),
            "chat_template": canonical_json(model.chat_template),
            "engine": canonical_json(model.engine),
            "agent": canonical_json(agent),
            "case": canonical_json(case),
            "epoch": str(epoch),
        }
        if privacy is not None:
            self._trial["privacy"] = canonical_json(privacy)

    def key(self, repeat: int, options_json: str) -> bytes:
        """The key of one repeat, whose options are given as canonical JSON; `KEY_BYTES` long."""
        request = _object({**self._request, "options": options_json})
        text = _object({**self._trial, "repeat": str(repeat), "request": request})
        return hashlib.sha256(text.encode()).digest()


def prompt_json(request: Request) -> dict[str, str]:
    """What a request asks, whoever is asked and with which options; canonical JSON by name."""
    return {
        "messages": canonical_json(_messages(request.messages)),
        "max_tokens": str(request.max_tokens),
        "schema": canonical_json(request.schema),
    }


def options_json(options: Options) -> str:
    """Options as canonical JSON."""
    return canonical_json(dataclasses.asdict(options))


def key_text(key: bytes) -> str:
    """A key as it is stored: ``sha256:`` and hexadecimal digits."""
    return _SCHEME + key.hex()


def _object(members: Mapping[str, str]) -> str:
    """Canonical JSON of an object whose values are canonical JSON already."""
    return "{" + ",".join(f'"{name}":{members[name]}' for name in sorted(members)) + "}"


def _messages(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    return [
        {
            "role": message.role,
            "content": message.content,
            "images": [
                {"sha256": hashlib.sha256(image.data).hexdigest(), "media_type": image.media_type}
                for image in message.images
            ],
        }
        for message in messages
    ]
