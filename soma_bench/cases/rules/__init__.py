"""What the generated cases take for true: thresholds and diagnoses as small tables of our own.

`nodules` has what the size of a nodule leads to, `diagnosis` what a diagnosis is here, `diagnoses` the
table of them. The tables serve tests of language models. They are no guideline and advise on no
patient.
"""

from soma_bench.cases.rules.diagnoses import DIAGNOSES, NODULE
from soma_bench.cases.rules.diagnosis import DiagnosisRule, Look, cancer_code
from soma_bench.cases.rules.nodules import (
    GROUND_GLASS_MM,
    MONTHS,
    PART_SOLID_CORE_MM,
    PART_SOLID_WHOLE_MM,
    SOLID_MM,
    Category,
    lung_rads,
)

__all__ = [
    "DIAGNOSES",
    "GROUND_GLASS_MM",
    "MONTHS",
    "NODULE",
    "PART_SOLID_CORE_MM",
    "PART_SOLID_WHOLE_MM",
    "SOLID_MM",
    "Category",
    "DiagnosisRule",
    "Look",
    "cancer_code",
    "lung_rads",
]
