"""The images that a case refers to, loaded or made."""

from __future__ import annotations

from pathlib import Path

from soma_bench.agents.pictures import PhantomPicture, Picture
from soma_bench.cases.base import Case
from soma_bench.providers.images import load_image
from soma_bench.types import Image


def has_image(case: Case) -> bool:
    """Whether a case refers to an image."""
    return _picture(case) is not None


def load_images(case: Case, folder: Path) -> tuple[Image, ...]:
    """What a model that sees is shown of a case; nothing where the case refers to no image.

    Args:
        case: the case.
        folder: where the paths of its files start, which is its suite's folder.

    Raises:
        ConfigError: a file cannot be read or is no image, or a phantom cannot be made.
    """
    picture = _picture(case)
    if picture is None:
        return ()
    if isinstance(picture, PhantomPicture):
        # Made of numpy arrays, which a sweep without images has no need to load.
        from soma_bench.cases import phantom

        return (phantom.picture(picture),)
    return (load_image(folder / picture.path, window=picture.window),)


def _picture(case: Case) -> Picture | None:
    found: Picture | None = getattr(case.input, "image", None)
    return found
