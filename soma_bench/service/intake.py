"""A request for a report as a case."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from soma_bench.agents.radiologist import PictureInput
from soma_bench.agents.report_writer import ReportContext
from soma_bench.files import first_problem
from soma_bench.pipeline import Analysis
from soma_bench.routing.constraints import Pipeline
from soma_bench.service.base64_files import Base64File
from soma_bench.service.bodies import ClinicalContext, Metadata, ReportBody, SmokingHistory
from soma_bench.service.failures import RequestError
from soma_bench.service.masks import Masks, read_masks
from soma_bench.service.pictures import picture_file

_LINE = 200
"""Characters of a line in a report."""
_NOTE = 2000
_EXAM = "Chest CT"
_NO_INDICATION = "Not given."


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """A case with the file of its picture."""

    analysis: Analysis
    file: Base64File


def order_of(analysis: Analysis, wanted: Pipeline) -> Pipeline:
    """The pipeline for a case: side by side the Pathologist needs regions in millimetres."""
    regions = analysis.imaging.regions
    in_mm = regions and all(region.area_mm2 is not None for region in regions)
    return wanted if in_mm else "sequential"


def read_request(body: ReportBody) -> Intake:
    """The case that a request asks to be reported; its picture's pixels are not looked at yet.

    Raises:
        RequestError: the picture or what comes with it is no case; the client is told.
    """
    file = picture_file(body.final_image)
    metadata = body.metadata or Metadata()
    context = body.clinicalContext
    if isinstance(context, str):
        context = ClinicalContext(clinicalIndication=context)
    context = context or ClinicalContext()
    masks = read_masks(metadata.masks or (), pixel_spacing_mm=metadata.pixelSpacing)
    who = body.patientInfo or metadata.patientInfo
    exam = _exam(metadata, context)
    prior = context.priorImagingDate
    try:
        analysis = Analysis(
            message=f"Please report this examination: {exam}.",
            imaging=PictureInput(
                exam=_seen(exam, masks),
                regions=masks.regions,
                pixel_spacing_mm=metadata.pixelSpacing,
            ),
            patient=None if who is None else who.patient(),
            context=ReportContext(
                indication=_clipped(context.clinicalIndication or _NO_INDICATION),
                comparison=None if prior is None else f"Imaging of {prior}.",
                technique=f"{exam}.",
            ),
            notes=tuple(_notes(context)),
        )
    except ValidationError as error:
        raise RequestError(f"the request is no case: {first_problem(error)}") from error
    return Intake(analysis=analysis, file=file)


def _exam(metadata: Metadata, context: ClinicalContext) -> str:
    known = [text for text in (metadata.bodyPart, metadata.modality) if text != "Unknown"]
    named = " ".join(filter(None, known))
    return _clipped(context.examType or named or _EXAM, _LINE - 60).rstrip(".")


def _seen(exam: str, masks: Masks) -> str:
    named = ", ".join(masks.names)
    return _clipped(f"{exam}; marked in colour: {named}" if named else exam)


def _notes(context: ClinicalContext) -> list[str]:
    """What the diagnosis has to take into account, in pieces that notes have room for."""
    indication = context.clinicalIndication or ""
    told = [
        indication if len(indication) > _LINE else "",
        _smoking(context.smokingHistory),
        context.relevantHistory or "",
    ]
    return [text[at : at + _NOTE] for text in told for at in range(0, len(text), _NOTE)]


def _smoking(history: SmokingHistory | str | None) -> str:
    if isinstance(history, str):
        return f"Smoking: {history}"
    if history is None or history.status is None:
        return ""
    years = f", {history.packYears:g} pack-years" if history.packYears else ""
    return f"Smoking: {history.status}{years}."


def _clipped(text: str, most: int = _LINE) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 3].rstrip() + "..."
