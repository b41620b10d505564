"""The guard at the last door before a cloud: what may leave this machine, and in which form.

Whatever it does not know is private, and when the guard itself fails, nothing leaves.
"""

from __future__ import annotations

from soma_bench.errors import PrivacyError
from soma_bench.providers.transports import Cleared
from soma_bench.routing.context import Identifiers
from soma_bench.routing.profile import Profile
from soma_bench.types import PrivacyLevel, Request, Target


class Guard:
    """Decides whether a request may go to a cloud target.

    Args:
        profile: says what is local, and whether images may leave.
    """

    def __init__(self, profile: Profile) -> None:
        self._profile = profile

    def clear(
        self,
        request: Request,
        target: Target,
        level: PrivacyLevel | None,
        identifiers: Identifiers = Identifiers(),  # noqa: ARG002, B008 - frozen
    ) -> Cleared:
        """The request as it may leave for ``target``.

        Args:
            request: what is to be asked.
            target: where it is to go.
            level: the strictest level of everything in the request; None, where nobody said, counts
                as ``local_only``.
            identifiers: what is known to identify the patient.

        Raises:
            PrivacyError: it may not leave, or the guard failed.
        """
        try:
            return self._clear(request, target, level)
        except PrivacyError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever fails here, nothing may leave
            # Its words and its chain may hold the very text that must not be shown.
            failure = type(error).__name__
        raise PrivacyError(
            f"{target}: the privacy guard failed ({failure}), so nothing was sent; choose a local"
            " target"
        )

    def _clear(self, request: Request, target: Target, level: PrivacyLevel | None) -> Cleared:
        if level == "open":
            return Cleared(request=request, target=target, level="open")
        if level == "deidentified":
            raise PrivacyError(
                f"{target}: this installation cannot de-identify, so nothing was sent; choose a"
                " local target"
            )
        what = "of unknown privacy" if level is None else "local_only"
        raise PrivacyError(f"{target}: the request is {what} and must not leave this machine")
