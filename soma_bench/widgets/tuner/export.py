"""Writing the chosen routing as a profile, and saying what it changes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soma_bench.errors import ConfigError
from soma_bench.routing.difference import diff
from soma_bench.routing.profile import Profile, load_profile, save_profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A profile that was written."""

    path: Path
    changed: bool
    """Whether the file's bytes changed."""
    against: Path
    """The profile that it was compared with: the current one."""
    difference: tuple[str, ...] | None
    """One line for each difference; None where there was no profile to compare with."""
    unreadable: str = ""
    """Why the current profile could not be compared with."""

    def as_json(self) -> dict[str, Any]:
        """The same for the browser."""
        return {
            "path": str(self.path),
            "changed": self.changed,
            "against": str(self.against),
            "difference": None if self.difference is None else list(self.difference),
            "unreadable": self.unreadable,
        }


def export(profile: Profile, path: Path, current: Path | None = None) -> Exported:
    """Write ``profile`` and compare it with the one that it takes the place of.

    Args:
        profile: what to write.
        path: where.
        current: the profile in use; by default the one that ``path`` held until now.

    Raises:
        ConfigError: the file cannot be written; nothing was changed.
    """
    against = current or path
    old, unreadable = None, ""
    if against.is_file():
        try:
            old = load_profile(against)
        except ConfigError as error:
            # What cannot be read may still be replaced, and whoever looks at the diff is told.
            unreadable = str(error)
    return Exported(
        path=path,
        changed=save_profile(profile, path),
        against=against,
        difference=None if old is None else tuple(diff(old, profile)),
        unreadable=unreadable,
    )
