"""One trial, or two on the same case side by side, as HTML in which a model's words are only words."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from soma_bench.cases.images import load_images
from soma_bench.cases.suite import CASE_BY_AGENT
from soma_bench.errors import ConfigError
from soma_bench.files import first_problem
from soma_bench.plots.labels import AGENT_TITLES
from soma_bench.scoring import SCORER_BY_AGENT
from soma_bench.widgets.inspector_differences import Piece, mark_differences
from soma_bench.widgets.panels import render

_SECONDS = (
    ("total_s", "time of the call"),
    ("queue_s", "waited in a queue"),
    ("load_s", "loading the model (apart)"),
    ("first_token_s", "to the first token"),
    ("first_answer_token_s", "to the first token of the answer"),
    ("prefill_s", "reading the prompt"),
    ("decode_s", "writing"),
)
_TOKENS = (
    ("prompt_tokens", "prompt"),
    ("cached_tokens", "of it from a cache"),
    ("cache_write_tokens", "of it put into a cache"),
    ("output_tokens", "written, thinking included"),
    ("thinking_tokens", "of it thinking"),
)
_UNKNOWN = "not said"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownImage:
    """An image of a case, as it stands in the page."""

    source: str
    """A ``data:`` URI of a PNG or JPEG that holds pixels and nothing else."""
    caption: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseImages:
    """What a case shows, or why it cannot be shown."""

    images: tuple[ShownImage, ...] = ()
    problem: str = ""


def case_images(trial: Mapping[str, Any], suite_folder: Path) -> CaseImages:
    """The images of a trial's case, made or read anew.

    DICOM files come as windowed greys without a header, and PNG and JPEG files without their texts,
    as `soma_bench.providers.images` reads them.

    Args:
        trial: a trial as `soma_bench.sweeps.queries.whole_trial` gives it.
        suite_folder: where the paths of the case's files start.
    """
    kind = TypeAdapter(CASE_BY_AGENT[trial["agent"]])
    try:
        # As JSON: the strict model takes lists for tuples there only.
        case = kind.validate_json(json.dumps(trial["case"]))
        images = load_images(case, suite_folder)
    except ValidationError as error:
        return CaseImages(problem=f"the stored case cannot be read: {first_problem(error)}")
    except ConfigError as error:
        return CaseImages(problem=str(error))
    seen = {
        image["sha256"]
        for message in trial["request"].get("messages", ())
        for image in message.get("images", ())
    }
    return CaseImages(
        images=tuple(
            ShownImage(
                source=f"data:{image.media_type};base64,{b64encode(image.data).decode()}",
                caption=_caption(hashlib.sha256(image.data).hexdigest(), seen),
            )
            for image in images
        )
    )


def trial_html(
    trial: Mapping[str, Any], other: Mapping[str, Any] | None = None, *, images: CaseImages
) -> str:
    """The trial with its case, or both trials side by side with what differs marked.

    Args:
        trial: a trial as `soma_bench.sweeps.queries.whole_trial` gives it.
        other: another one on the same case.
        images: of the case.
    """
    trials = [trial] if other is None else [trial, other]
    texts: Sequence[tuple[Sequence[Piece], Sequence[Piece]]]
    if other is None:
        texts = [([Piece(_text(trial, "answer"), False)], [Piece(_text(trial, "thoughts"), False)])]
    else:
        answers = mark_differences(_text(trial, "answer"), _text(other, "answer"))
        thoughts = mark_differences(_text(trial, "thoughts"), _text(other, "thoughts"))
        texts = list(zip(answers, thoughts, strict=True))
    sides = [
        {
            "target": one["target"],
            "outcome": one["outcome"],
            "problem": one["error"] or one["failure"],
            "answer": answer,
            "thoughts": thoughts,
            "messages": one["request"].get("messages", ()),
        }
        for one, (answer, thoughts) in zip(trials, texts, strict=True)
    ]
    same_prompt = all(side["messages"] == sides[0]["messages"] for side in sides)
    return render(
        "trial.html.jinja",
        agent=AGENT_TITLES[trial["agent"]],
        case=trial["case_id"],
        sides=sides,
        prompts=sides[:1] if same_prompt else sides,
        tables=[
            ("Score", _table(trials, _score_rows(trials))),
            ("Time and tokens", _table(trials, _FIGURES)),
            ("Provenance", _table(trials, _PROVENANCE)),
        ],
        reference=_pretty(trial["case"].get("reference")),
        input=_pretty(trial["case"].get("input")),
        images=images,
    )


Show = Callable[[Mapping[str, Any]], str]


def _table(
    trials: Sequence[Mapping[str, Any]], rows: Sequence[tuple[str, Show]]
) -> list[tuple[str, list[str], bool]]:
    """Lines of a name, a text for each trial, and whether the texts differ."""
    lines = [(name, [show(trial) for trial in trials]) for name, show in rows]
    return [
        (name, texts, len(set(texts)) > 1)
        for name, texts in lines
        if any(text != _UNKNOWN for text in texts)
    ]


def _score_rows(trials: Sequence[Mapping[str, Any]]) -> list[tuple[str, Show]]:
    metric = SCORER_BY_AGENT[trials[0]["agent"]].primary
    names = dict.fromkeys(name for trial in trials for name in trial["parts"] or {})
    return [
        (f"{metric} (0 to 1)", lambda trial: _number(trial["score"])),
        ("how it ended", lambda trial: trial["outcome"]),
        *((name, _part(name)) for name in names),
    ]


def _part(name: str) -> Show:
    return lambda trial: _value((trial["parts"] or {}).get(name))


def _seconds(name: str) -> Show:
    return lambda trial: _UNKNOWN if trial[name] is None else f"{trial[name]:.3f} s"


def _count(name: str) -> Show:
    return lambda trial: _UNKNOWN if trial[name] is None else f"{trial[name]:,} tokens"


def _plain(name: str) -> Show:
    return lambda trial: _value(trial[name])


def _flags(trial: Mapping[str, Any]) -> str:
    flags = []
    if trial["start"] == "cold":
        flags.append("cold: this call loaded the model")
    if trial["busy"]:
        flags.append(f"busy: other programs used {trial['other_cpu_share']:.0%} of the CPU")
    return "; ".join(flags) or "none"


def _cost(trial: Mapping[str, Any]) -> str:
    if trial["cost_usd"] is None:
        return f"unknown ({trial['cost_source'] or 'nobody said'})"
    return f"${trial['cost_usd']:.6f} ({trial['cost_basis']}; {trial['cost_source']})"


def _memory(trial: Mapping[str, Any]) -> str:
    size = trial["memory_bytes"]
    return _UNKNOWN if size is None else f"{size / (1 << 20):,.0f} MiB"


_FIGURES: Sequence[tuple[str, Show]] = (
    *((words, _seconds(name)) for name, words in _SECONDS),
    *((words, _count(name)) for name, words in _TOKENS),
    ("cost", _cost),
    ("memory", _memory),
    ("flags", _flags),
)
_PROVENANCE: Sequence[tuple[str, Show]] = (
    ("repeat", _plain("repeat")),
    ("finish", _plain("finish")),
    ("structured by", _plain("structured_by")),
    ("synthetic weights", lambda trial: "yes" if trial["synthetic"] else "no"),
    ("options", lambda trial: _value(trial["request"].get("options"))),
    ("model", _plain("identity")),
    ("power mode", _plain("power_mode")),
    ("ended at (UTC)", _plain("ended_at")),
    ("key", _plain("key")),
)


def _caption(digest: str, seen: set[str]) -> str:
    if not seen:
        return "The model was not shown this image; it was told the measured regions."
    if digest in seen:
        return "The model was shown this image, byte for byte."
    return "The model was shown other bytes than these: the file or the software has changed since."


def _text(trial: Mapping[str, Any], name: str) -> str:
    return trial[name] or ""


def _number(value: float | None) -> str:
    return "not scored yet" if value is None else f"{value:.3f}"


def _value(value: Any) -> str:
    if value is None:
        return _UNKNOWN
    if isinstance(value, float):
        return f"{value:.3f}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
