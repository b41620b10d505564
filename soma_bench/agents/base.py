"""What an agent is: a prompt, a typed input and a typed output. Agents call nobody."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from soma_bench.errors import AnswerError, ConfigError
from soma_bench.files import digest, first_problem, parse_json
from soma_bench.types import AgentName, Completion, Image, Message, Options, Request, Thinking


class Strict(BaseModel):
    """Base of every record that comes from outside: unknown keys and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Revision(Strict):
    """An earlier answer of an agent, and what has to change in it."""

    draft: Annotated[str, Field(min_length=1, max_length=8000)]
    """The earlier answer, as the agent wrote it."""
    requests: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=2000)], ...],
        Field(min_length=1, max_length=20),
    ]
    """Issues that a review found, or a doctor's own words."""


def _is_none(value: object) -> bool:
    return value is None


MaybeRevision = Annotated[Revision | None, Field(exclude_if=_is_none)]
"""Stands in an input's JSON only where there is one, so that digests of cases stay as they were."""


def render_revision(revision: Revision | None) -> list[str]:
    """What a prompt says of a revision at its end; nothing where there is none."""
    if revision is None:
        return []
    return [
        "Your earlier answer:",
        revision.draft,
        "Answer again, whole, with these changes and no others:",
        *(f"- {request}" for request in revision.requests),
    ]


In = TypeVar("In", bound=BaseModel)
Out = TypeVar("Out", bound=BaseModel)


@dataclass(frozen=True, kw_only=True)
class Agent(Generic[In, Out]):
    """Turns an input into a request and an answer into an output.

    The prompt is the system text, worked examples as pairs of turns, and the case itself, so that
    everything before the case is the same for all cases of an agent.
    """

    name: AgentName
    input_type: type[In]
    output_type: type[Out]
    system: str
    examples: tuple[tuple[In, Out], ...]
    """Worked examples; their inputs and outputs go through the same code as a case's."""
    render: Callable[[In], str]
    """The user's turn for an input."""
    write: Callable[[Out], str]
    """The text a model should have answered to mean this output."""
    parse: Callable[[str], Out]
    """The output an answer means; raises AnswerError when it means none."""
    schema: Mapping[str, Any] | None
    """JSON Schema of the answer; None for free text."""
    max_tokens: int
    render_with_image: Callable[[In], str] | None = None
    """The user's turn where pictures go with it; None for an agent that looks at none."""

    @property
    def digest(self) -> str:
        """Digest of everything the prompt says before the case, and of the answer's schema."""
        turns = [(self.render(given), self.write(answer)) for given, answer in self.examples]
        return digest([self.system, turns, self.schema, self.max_tokens])

    def messages(self, inputs: In, images: tuple[Image, ...] = ()) -> tuple[Message, ...]:
        """The conversation that asks the agent's question about ``inputs``.

        Raises:
            ConfigError: there are images and the agent looks at none.
        """
        turns = [Message("system", self.system)]
        for example_input, example_output in self.examples:
            turns.append(Message("user", self.render(example_input)))
            turns.append(Message("assistant", self.write(example_output)))
        if not images:
            return (*turns, Message("user", self.render(inputs)))
        if self.render_with_image is None:
            raise ConfigError(f"{self.name}: looks at no images; leave them out")
        return (*turns, Message("user", self.render_with_image(inputs), images))

    def request(
        self,
        inputs: In,
        *,
        model: str,
        thinking: Thinking | None,
        options: Options,
        images: tuple[Image, ...] = (),
    ) -> Request:
        """The request that a sweep and the pipeline alike send to a provider.

        Args:
            inputs: what the agent is asked about.
            model: the model's exact name.
            thinking: the thinking setting.
            options: generation settings.
            images: what the inputs' pictures show, for a model that sees; without them the agent
                is asked in words alone.

        Raises:
            ConfigError: there are images and the agent looks at none.
        """
        return Request(
            model=model,
            messages=self.messages(inputs, images),
            max_tokens=self.max_tokens,
            thinking=thinking,
            schema=self.schema,
            options=options,
        )

    def read(self, completion: Completion) -> Out:
        """The typed output of a completion.

        Raises:
            AnswerError: the answer was refused, was cut off by its token limit, or does not parse.
        """
        if completion.finish != "stop":
            reason = {"length": "was cut off at its token limit", "refusal": "is a refusal"}
            raise AnswerError(f"{self.name}: the answer {reason[completion.finish]}")
        return self.parse(completion.text)


def json_writer(output: BaseModel) -> str:
    """Compact JSON of an output, as a worked example shows it."""
    return output.model_dump_json()


def json_parser(output_type: type[Out]) -> Callable[[str], Out]:
    """A parser that takes exactly the JSON of ``output_type`` and nothing else."""

    def parse(text: str) -> Out:
        try:
            output = output_type.model_validate_json(text.strip())
            # pydantic keeps the last of two equal keys; a verdict given twice is none.
            parse_json(text, "it")
        except ValidationError as error:
            problem = first_problem(error)
        except ConfigError as error:
            problem = str(error)
        else:
            return output
        # Raised out here, since the errors above hold the answer, and with it a patient's name.
        raise AnswerError(f"the answer is not {output_type.__name__}: {problem}")

    return parse


def answer_schema(output_type: type[BaseModel]) -> dict[str, Any]:
    """JSON Schema of an output, as small as backends want it: no titles, no descriptions."""

    def strip(node: Any) -> Any:
        if isinstance(node, dict):
            return {
                key: {name: strip(sub) for name, sub in value.items()}
                if key in ("properties", "$defs")
                else strip(value)
                for key, value in node.items()
                if key not in ("title", "description")
            }
        if isinstance(node, list):
            return [strip(item) for item in node]
        return node

    schema: dict[str, Any] = strip(output_type.model_json_schema())
    return schema


def prompt_text(name: str) -> str:
    """The system prompt that lies beside the agents as ``prompts/<name>.md``."""
    return (
        resources.files("soma_bench.agents")
        .joinpath(f"prompts/{name}.md")
        .read_text("utf-8")
        .strip()
    )
