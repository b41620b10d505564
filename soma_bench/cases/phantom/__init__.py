"""A chest phantom: axial CT slices made from parameters, whose truth is the parameters.

It tests geometry and the following of instructions: which side, which half, how large, how many.
It does not test the skill of a radiologist, and no figure from it says that a model can read a
patient's scan.
"""

from soma_bench.cases.phantom.render import SCALE_BAR_MM, SIZE_PX, hounsfield, picture, pixels
from soma_bench.cases.phantom.truth import expected_findings, mask, measured_regions

__all__ = [
    "SCALE_BAR_MM",
    "SIZE_PX",
    "expected_findings",
    "hounsfield",
    "mask",
    "measured_regions",
    "picture",
    "pixels",
]
