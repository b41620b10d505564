"""Messages of doctors, by intent and handler; the same wish in two wordings is one cluster."""

from __future__ import annotations

from soma_bench.agents.alignment import AlignmentInput, Handler, Intent
from soma_bench.cases.alignment import AlignmentCase, AlignmentReference
from soma_bench.cases.base import Split
from soma_bench.cases.draws import Draws

Wording = tuple[str, str]
Cell = tuple[Intent, Handler, tuple[Wording, ...]]

_CELLS: tuple[Cell, ...] = (
    (
        "QUESTION",
        "radiologist",
        (
            (
                "How big is the nodule of the {side} {lobe}?",
                "What is the diameter of the {side} {lobe} nodule?",
            ),
            (
                "Is there any effusion on the {side}?",
                "Can you see fluid in the {side} pleural space?",
            ),
        ),
    ),
    (
        "QUESTION",
        "pathologist",
        (
            (
                "How likely is it that this is {disease}?",
                "What probability do you give {disease}?",
            ),
            (
                "What else could a nodule of {size} mm be in a smoker?",
                "Which other diagnoses fit a nodule of {size} mm in someone who smokes?",
            ),
        ),
    ),
    (
        "QUESTION",
        "report_writer",
        (
            (
                "Why is there no comparison section in the report?",
                "The report has no comparison section. What is the reason?",
            ),
            (
                "Under which heading did you put the recommendation?",
                "In which section of the report does the recommendation stand?",
            ),
        ),
    ),
    (
        "QUESTION",
        "qc_reviewer",
        (
            (
                "Did the quality check find anything wrong?",
                "Were there any issues in the quality check?",
            ),
            (
                "What score did this report get in the review?",
                "How did the quality review rate this report?",
            ),
        ),
    ),
    (
        "QUESTION",
        "self",
        (
            (
                "How long will the analysis still take?",
                "When can I expect the analysis to be finished?",
            ),
            (
                "Which step is running right now?",
                "At what stage of the work are we at the moment?",
            ),
        ),
    ),
    (
        "INFO",
        "radiologist",
        (
            (
                "On the scan of {month} the {side} {lobe} nodule measured {size} mm.",
                "The nodule in the {side} {lobe} had {size} mm on the images from {month}.",
            ),
            (
                "The patient moved during the scan, so the {side} base is blurred.",
                "The {side} base is blurred because the patient moved while being scanned.",
            ),
        ),
    ),
    (
        "INFO",
        "pathologist",
        (
            (
                "The patient was treated for {disease} in {year}.",
                "In {year} this patient had treatment for {disease}.",
            ),
            (
                "The biopsy of {month} shows {disease}.",
                "Histology from {month} came back: {disease}.",
            ),
        ),
    ),
    (
        "INFO",
        "report_writer",
        (
            (
                "The report goes to the tumor board, which reads it in English.",
                "Readers of the report are the tumor board; their language is English.",
            ),
            (
                "Our department writes sizes in millimetres in its reports.",
                "In reports of our department sizes are stated in millimetres.",
            ),
        ),
    ),
    (
        "INFO",
        "qc_reviewer",
        (
            (
                "Since {month} our hospital's checklist demands a disclaimer in each report.",
                "The hospital's checklist has required a disclaimer in every report since {month}.",
            ),
            (
                "The last report passed the check although its sides were mixed up.",
                "A report with swapped sides went through the last quality check.",
            ),
        ),
    ),
    (
        "INFO",
        "self",
        (
            (
                "I am away until {day}; my deputy can be reached at the ward.",
                "Until {day} I am not in; the ward reaches my deputy.",
            ),
            (
                "The next patient comes at {hour}.",
                "At {hour} the following patient is due.",
            ),
        ),
    ),
    (
        "REVISION",
        "radiologist",
        (
            (
                "The nodule measures {size} mm. Please correct its size.",
                "Please change the nodule's size; it has {size} mm.",
            ),
            (
                "You missed a nodule in the {side} {lobe}; add it to the findings.",
                "Add the nodule in the {side} {lobe} that you overlooked.",
            ),
        ),
    ),
    (
        "REVISION",
        "pathologist",
        (
            (
                "Put {disease} first in the list of differentials.",
                "Move {disease} to the top of the differential diagnoses.",
            ),
            (
                "Replace the leading diagnosis by {disease}.",
                "Make {disease} the main diagnosis instead.",
            ),
        ),
    ),
    (
        "REVISION",
        "report_writer",
        (
            (
                "Shorten the impression to two sentences, please.",
                "Please cut the impression down to two sentences.",
            ),
            (
                "Write the technique section as one line.",
                "Turn the technique section into a single line.",
            ),
        ),
    ),
    (
        "REVISION",
        "qc_reviewer",
        (
            (
                "Repeat the quality check with the stricter checklist.",
                "Do the quality review again, this time by the stricter list.",
            ),
            (
                "Lower the score in your review: the missing disclaimer was not counted.",
                "Your review ignored the missing disclaimer; change its score.",
            ),
        ),
    ),
    (
        "REVISION",
        "self",
        (
            (
                "Set the priority of this case to urgent.",
                "Change this case's priority: make it urgent.",
            ),
            (
                "Cancel the analysis and start it over.",
                "Stop this analysis and begin again.",
            ),
        ),
    ),
    (
        "APPROVAL",
        "self",
        (
            ("Looks good, you can release it.", "Fine with me. Release it."),
            (
                "I stand by this report and will sign it.",
                "Agreed; I put my signature to the report.",
            ),
            ("No changes from my side.", "I have nothing to change."),
            ("Perfect, send it to the ward.", "Excellent. It can go to the ward."),
            ("Approved as it stands.", "I approve it the way it is."),
            ("All correct, thank you. Close the case.", "Everything is right, thanks; close it."),
        ),
    ),
    (
        "UNCLEAR",
        "self",
        (
            ("Hmm, the other one, or maybe not.", "The other one perhaps, hm, or no."),
            ("as we said {day}, you know", "you know, like {day}"),
            ("nodul {side} thng ???", "{side} nodul ?? thing"),
            ("Well. That.", "That, well."),
            ("it depends on the one before", "depends on the previous one, that"),
            ("....", "?!?"),
        ),
    ),
)
_SLOTS = {
    "side": ("left", "right"),
    "lobe": ("upper lobe", "lower lobe"),
    "size": ("6", "7", "9", "11", "13", "18"),
    "month": ("January", "March", "April", "June", "August", "October"),
    "year": ("2015", "2017", "2018", "2020", "2021"),
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday"),
    "hour": ("9:15", "10:40", "13:05", "14:30"),
    "disease": ("tuberculosis", "sarcoidosis", "lymphoma", "adenocarcinoma", "lung metastases"),
}


def generate(seed: int) -> list[AlignmentCase]:
    """Two wordings of each wish; every second wish is held out, with both its wordings."""
    draws = Draws(seed, "alignment")
    cases = []
    for intent, handler, wishes in _CELLS:
        for number, wording in enumerate(wishes):
            split: Split = "held_out" if number % 2 else "dev"
            cluster = f"{intent.lower()}-{handler}-{number + 1}"
            for letter, text in zip("ab", wording, strict=True):
                filled = text.format(**{name: draws.choice(v) for name, v in _SLOTS.items()})
                cases.append(
                    AlignmentCase(
                        id=f"alignment-g-{cluster}{letter}".replace("_", "-"),
                        agent="alignment",
                        input=AlignmentInput(message=filled),
                        reference=AlignmentReference(intent=intent, handlers=(handler,)),
                        tags=(intent.lower(), handler),
                        split=split,
                        cluster=cluster,
                    )
                )
    return draws.shuffled(cases)
