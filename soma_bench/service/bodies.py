"""The API's bodies. Names are the front end's; what a body has besides them is not looked at.

Fields that say who the patient is are kept for the patient's report and for finding them in texts
before a cloud sees those; the others of their objects are dropped.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from soma_bench.agents.report_writer import Patient

_TEXT = StringConstraints(strip_whitespace=True, max_length=2500)
Text = Annotated[str, _TEXT]
Message = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
SessionId = Annotated[str, StringConstraints(max_length=128)]


def _number_as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _empty_as_none(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value


def _day(value: Any) -> Any:
    """The day of an ISO date or time; JavaScript writes a date with its time."""
    if not isinstance(value, str):
        return value
    found = re.match(r"(\d{4}-\d{2}-\d{2})(?:$|[T ])", value.strip())
    if found is None:
        raise ValueError("give a date as YYYY-MM-DD")
    return date.fromisoformat(found[1]).isoformat()


_Name = Annotated[
    Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)] | None,
    BeforeValidator(_empty_as_none),
    BeforeValidator(_number_as_text),
]
_Day = Annotated[
    Annotated[str, StringConstraints(max_length=40)] | None,
    BeforeValidator(lambda value: value if value is None else _day(value)),
    BeforeValidator(_empty_as_none),
]
_Age = Annotated[
    Annotated[int, Field(ge=0, le=120)] | None,
    BeforeValidator(_empty_as_none),
]
_MaybeText = Annotated[Text | None, BeforeValidator(_empty_as_none)]


class Body(BaseModel):
    """Base of what comes in."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


class PatientInfo(Body):
    """Who the patient is."""

    name: _Name = None
    mrn: _Name = None
    """Medical record number."""
    dob: _Day = None
    """Date of birth."""
    age: _Age = None
    """Years."""
    gender: _Name = None

    def patient(self) -> Patient | None:
        """The same for a report; None where nothing is known."""
        sexes: dict[str, Literal["female", "male"]] = {"f": "female", "m": "male"}
        sex = None
        if self.gender is not None:
            word = self.gender.lower()
            known = word in ("f", "m", "female", "male")
            sex = sexes[word[0]] if known else "other"
        patient = Patient(
            name=self.name, mrn=self.mrn, date_of_birth=self.dob, age=self.age, sex=sex
        )
        return patient if patient != Patient() else None


class SmokingHistory(Body):
    """Whether and how much the patient smokes."""

    status: _MaybeText = None
    packYears: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] | None = None  # noqa: N815


class ClinicalContext(Body):
    """Why the examination was made, and what is known of the patient's illness."""

    clinicalIndication: _MaybeText = None  # noqa: N815
    examType: _MaybeText = None  # noqa: N815
    """Such as ``CT Chest with Contrast``."""
    smokingHistory: SmokingHistory | _MaybeText = None  # noqa: N815
    relevantHistory: _MaybeText = None  # noqa: N815
    priorImagingDate: _Day = None  # noqa: N815


class Metadata(Body):
    """What is known of the picture."""

    masks: Annotated[list[Any], Field(max_length=200)] | None = None
    """What was segmented; see `soma_bench.service.masks`."""
    modality: _MaybeText = None
    bodyPart: _MaybeText = None  # noqa: N815
    pixelSpacing: Annotated[float, Field(ge=0.1, le=5, allow_inf_nan=False)] | None = None  # noqa: N815
    """Millimetres from the centre of one pixel to the next."""
    patientInfo: PatientInfo | None = None  # noqa: N815
    """Where it does not stand beside the metadata."""


class ReportBody(Body):
    """Asks for a report."""

    final_image: Annotated[str, StringConstraints(min_length=1)]
    """PNG, JPEG, WebP or DICOM, as a data URL or in base64."""
    metadata: Metadata | None = None
    patientInfo: PatientInfo | None = None  # noqa: N815
    clinicalContext: ClinicalContext | _MaybeText = None  # noqa: N815


class ChatBody(Body):
    """A doctor's message, to be answered as it is thought of."""

    message: Message
    sessionId: SessionId | None = None  # noqa: N815
    mode: Literal["auto", "question", "info", "revision"] | None = "auto"
    targetAgent: (  # noqa: N815
        Literal["auto", "radiologist", "pathologist", "report_writer"] | None
    ) = None


class FeedbackBody(Body):
    """A doctor's message on a report."""

    userMessage: Message  # noqa: N815
    sessionId: SessionId | None = None  # noqa: N815


class ReportMetadata(BaseModel):
    """How a report came about."""

    generationTime: int  # noqa: N815
    """Milliseconds."""
    qcScore: int  # noqa: N815
    """0 to 100."""
    qcPassed: bool  # noqa: N815


class ReportAnswer(BaseModel):
    """A report."""

    message: str
    report: str
    """Markdown."""
    sessionId: str  # noqa: N815
    metadata: ReportMetadata


class FeedbackAnswer(BaseModel):
    """What became of a doctor's message."""

    reply: str
    updatedReport: str | None  # noqa: N815
    """None where the report did not change."""
    changes: list[str]
    sessionId: str  # noqa: N815


class SessionAnswer(BaseModel):
    """A session, without its patient's data."""

    sessionId: str  # noqa: N815
    state: str
    hasReport: bool  # noqa: N815


class MessageAnswer(BaseModel):
    """What was done."""

    message: str


class TargetHealth(BaseModel):
    """Whether a target could answer now."""

    target: str
    reason: str | None
    """Why it could not; None where it could."""


class HealthAnswer(BaseModel):
    """Whether the service could make a report now."""

    status: Literal["ok", "degraded"]
    """``degraded``: a target of the profile could not answer."""
    activeSessions: int  # noqa: N815
    openRequests: int  # noqa: N815
    profile: str
    digest: str
    """Of the profile that the next analysis runs on."""
    loadedAt: str | None  # noqa: N815
    """When it was taken from its file: ISO 8601, UTC."""
    reloadError: str | None  # noqa: N815
    """Why the file, which has changed since, was not taken; None where it was."""
    targets: list[TargetHealth]
    timestamp: str
    """ISO 8601, UTC."""


class ErrorAnswer(BaseModel):
    """Why there is no answer."""

    error: str
    details: str | None = None
