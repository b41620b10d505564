"""A model as a judge: yes-no items with quoted evidence, and which of two answers is better.

The judge never learns whose answer it reads. A "yes" counts only with a quote that stands in the
answer, and a preference only where it stays the same with the answers in the other order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError

from soma_bench.agents.base import Strict, answer_schema
from soma_bench.errors import ConfigError, PrivacyError
from soma_bench.providers.base import Provider
from soma_bench.types import Completion, Message, Options, Request, Target

Out = TypeVar("Out", bound=Strict)

Problem = Literal["unreadable", "item missing", "no quote", "quote not in the answer"]
Preference = Literal["first", "second", "tie", "unreadable"]

_TOKENS_PER_ITEM = 120
"""Room for an item's id, verdict and quote."""
_LEAST_QUOTE = 4
"""Letters and digits that a quote has at least, unless the answer itself is shorter."""
_SYSTEM = (
    "You check texts of a medical report system against yes-no questions. Judge only what the text"
    " says, not its length or style. For each yes copy the words that prove it exactly from the"
    " text, at most 15 words. For a no leave the quote empty. Answer with JSON only."
)
_SYSTEM_PAIR = (
    "You compare two texts of a medical report system that answer the same task. Correct content"
    " counts; length and style do not. Answer with JSON only: A, B or tie."
)

_FAMILIES = {
    "claude": r"claude|anthropic|haiku|sonnet|opus|fable",
    "gpt": r"gpt|openai|chatgpt|o[134](?:-mini|-pro)?",
    "qwen": r"qwen|qwq",
    "llama": r"(?:code)?llama|vicuna|meditron",
    "mistral": r"(?:bio)?mi[sx]tral|ministral|magistral|codestral|devstral",
    "gemma": r"(?:med)?gemma|gemini",
    "phi": r"phi",
    "deepseek": r"deepseek",
    "smollm": r"smollm",
    "granite": r"granite",
    "glm": r"(?:chat)?glm",
    "command": r"command-r|aya",
    "yi": r"yi",
}
_PROVIDER_FAMILY = {"claude": "claude", "openai": "gpt"}


@dataclass(frozen=True, slots=True)
class RubricItem:
    """A question about an answer that a yes or a no settles."""

    id: str
    question: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a judge said to one item."""

    item: str
    met: bool | None
    """None where it is invalid; ``problem`` then says why."""
    quote: str = ""
    problem: Problem | None = None


class _ItemAnswer(Strict):
    id: Annotated[str, Field(max_length=40)]
    met: bool
    quote: Annotated[str, Field(max_length=160)]


class _RubricAnswer(Strict):
    items: Annotated[tuple[_ItemAnswer, ...], Field(max_length=20, strict=False)]


class _PairAnswer(Strict):
    better: Literal["A", "B", "tie"]


def model_families(target: Target) -> frozenset[str]:
    """The families that a target's model belongs to, a distilled one to both of its own.

    A model without a known name is a family by itself.

    >>> sorted(model_families(Target.parse("ollama:deepseek-r1-distill-qwen:7b")))
    ['deepseek', 'qwen']
    """
    name = target.model.lower()
    found = {
        family
        for family, names in _FAMILIES.items()
        if re.search(rf"(?<![a-z])(?:{names})(?![a-z])", name)
    }
    if not found and target.provider in _PROVIDER_FAMILY:
        found = {_PROVIDER_FAMILY[target.provider]}
    return frozenset(found or {re.split(r"[^a-z]", name.rpartition("/")[2])[0] or name})


def refuse_own_family(judge: Target, candidate: Target) -> None:
    """Stop a judge from judging its own kin, which judges favour.

    Raises:
        ConfigError: both are of one family.
    """
    shared = model_families(judge) & model_families(candidate)
    if shared:
        raise ConfigError(
            f"{judge} cannot judge {candidate}: both are {', '.join(sorted(shared))} models;"
            " choose a judge of another family"
        )


def blinded(text: str, candidate: Target) -> str:
    """An answer without the names of its model, its family and its maker."""
    names = [re.escape(candidate.model)]
    for family in sorted(model_families(candidate)):
        names.append(rf"(?:{_FAMILIES.get(family, re.escape(family))})[\w.:-]*\w")
        names.append(_FAMILIES.get(family, re.escape(family)))
    return re.sub(rf"(?<![A-Za-z])(?:{'|'.join(names)})(?![A-Za-z])", "[model]", text, flags=re.I)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """A target in the role of a judge."""

    provider: Provider
    target: Target
    allow_cloud: bool = False
    """Whether answers may leave this machine: what they hold of patients would go along."""

    async def rate(
        self, text: str, items: Sequence[RubricItem], *, candidate: Target, seed: int = 0
    ) -> tuple[Judgement, ...]:
        """The judge's word on every item, in their order.

        Raises:
            ConfigError: the judge is of the candidate's family, or there is no item.
            PrivacyError: the judge is in the cloud and ``allow_cloud`` is not set.
            ProviderError: the judge's backend failed.
        """
        refuse_own_family(self.target, candidate)
        return await self.rate_blind(blinded(text, candidate), items, seed=seed)

    async def rate_blind(
        self, text: str, items: Sequence[RubricItem], *, seed: int = 0
    ) -> tuple[Judgement, ...]:
        """As `rate`, for a text that is blinded already; only calibration may ask about any family.

        Raises:
            ConfigError: there is no item, or two have one id.
            PrivacyError: the judge is in the cloud and ``allow_cloud`` is not set.
            ProviderError: the judge's backend failed.
        """
        if not items or len({item.id for item in items}) < len(items):
            raise ConfigError("a judge needs at least one item, and each item an id of its own")
        questions = "\n".join(f"{item.id}: {item.question}" for item in items)
        answer = await self._ask(
            _SYSTEM,
            f"Text:\n<<<\n{text}\n>>>\nQuestions:\n{questions}\n"
            f'Form: {{"items":[{{"id":"{items[0].id}","met":true,"quote":"..."}}]}}',
            _RubricAnswer,
            schema=_schema_of(items),
            max_tokens=_TOKENS_PER_ITEM * (len(items) + 1),
            seed=seed,
        )
        if answer is None:
            return tuple(Judgement(item=item.id, met=None, problem="unreadable") for item in items)
        said: dict[str, list[_ItemAnswer]] = {}
        for given in answer.items:
            said.setdefault(given.id, []).append(given)
        return tuple(_judgement(item, said.get(item.id, []), text) for item in items)

    async def prefer(
        self,
        task: str,
        first: tuple[str, Target],
        second: tuple[str, Target],
        *,
        seed: int = 0,
    ) -> Preference:
        """Which of two (answer, its target) is better, asked in both orders; a flip is a tie.

        Raises:
            ConfigError: the judge is of a candidate's family.
            PrivacyError: the judge is in the cloud and ``allow_cloud`` is not set.
            ProviderError: the judge's backend failed.
        """
        texts = []
        for text, candidate in (first, second):
            refuse_own_family(self.target, candidate)
            # Each may name the other's model as well.
            texts.append(blinded(blinded(text, first[1]), second[1]))
        there, back = [
            await self._ask(
                _SYSTEM_PAIR,
                _pair(task, *ordered),
                _PairAnswer,
                schema=answer_schema(_PairAnswer),
                max_tokens=_TOKENS_PER_ITEM,
                seed=seed,
            )
            for ordered in ((texts[0], texts[1]), (texts[1], texts[0]))
        ]
        if there is None or back is None:
            return "unreadable"
        agreed = (there.better, back.better)
        return "first" if agreed == ("A", "B") else "second" if agreed == ("B", "A") else "tie"

    async def _ask(
        self,
        system: str,
        question: str,
        form: type[Out],
        *,
        schema: Mapping[str, Any],
        max_tokens: int,
        seed: int,
    ) -> Out | None:
        """The judge's answer; None where it is none."""
        if not (self.allow_cloud or self.provider.is_local):
            raise PrivacyError(
                f"{self.target}: a judge in the cloud would get the answers' texts; choose a local"
                " judge, or allow it on purpose for texts without patients"
            )
        completion = await self.provider.complete(
            Request(
                model=self.target.model,
                messages=(Message("system", system), Message("user", question)),
                max_tokens=max_tokens,
                thinking=self.target.thinking,
                schema=schema,
                options=Options(seed=seed, context_tokens=8192),
            )
        )
        return _read(completion, form)


def _schema_of(items: Sequence[RubricItem]) -> Mapping[str, Any]:
    """Schema of an answer that says one thing to each item, in their order."""
    schema = answer_schema(_RubricAnswer)
    schema["properties"]["items"] |= {"minItems": len(items), "maxItems": len(items)}
    schema["$defs"]["_ItemAnswer"]["properties"]["id"]["enum"] = [item.id for item in items]
    return schema


def _read(completion: Completion, form: type[Out]) -> Out | None:
    if completion.finish != "stop":
        return None
    try:
        return form.model_validate_json(completion.text.strip())
    except ValidationError:
        return None


def _pair(task: str, one: str, other: str) -> str:
    return (
        f"Task:\n<<<\n{task}\n>>>\nText A:\n<<<\n{one}\n>>>\nText B:\n<<<\n{other}\n>>>\n"
        f"Form: {json.dumps({'better': 'A'})}"
    )


def _judgement(item: RubricItem, said: Sequence[_ItemAnswer], text: str) -> Judgement:
    """An item's one answer, if it is one; a quote that is given must stand in the text."""
    if len(said) != 1:
        return Judgement(item=item.id, met=None, problem="item missing")
    (answer,) = said
    quote = _plain(answer.quote)
    problem: Problem | None = None
    if answer.met and len(re.sub(r"\W", "", quote)) < min(_LEAST_QUOTE, len(_plain(text))):
        problem = "no quote"
    elif quote not in _plain(text):
        problem = "quote not in the answer"
    return Judgement(
        item=item.id, met=None if problem else answer.met, quote=answer.quote, problem=problem
    )


def _plain(text: str) -> str:
    """A text in lower case with single spaces and without quotation marks around it."""
    return " ".join(text.lower().split()).strip("\"'\u201c\u201d ")
