"""Where a relative path of a notebook's parameters leads.

JupyterLab runs a notebook in its own folder, papermill where it was called: usually one above. Paths
are written as from there, and found from both.
"""

from __future__ import annotations

from pathlib import Path


def found_from_here(path: Path) -> Path:
    """The path from the working folder if it is there, else from the folder above if it is there.

    A file that is yet to be written goes to the first of the two in which its folder is.
    """
    if path.is_absolute():
        return path
    places = (path, Path("..") / path)
    return next(
        (place for place in places if place.exists()),
        next((place for place in places if place.parent.is_dir()), path),
    )


def store_from_here(location: str) -> str:
    """The same for a store, which may be a database's URL."""
    return location if "://" in location else str(found_from_here(Path(location)))
