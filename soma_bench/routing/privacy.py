"""The guard at the last door before a cloud: what may leave this machine, and in which form.

Whatever it does not know is private, and when the guard itself fails, nothing leaves.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from soma_bench.errors import ConfigError, PrivacyError
from soma_bench.providers.base import Provider
from soma_bench.providers.places import is_cloud_tag
from soma_bench.providers.transports import Cleared
from soma_bench.routing.context import Identifiers
from soma_bench.routing.deidentify import Case
from soma_bench.routing.recognizers import Recognizer, is_installed, presidio
from soma_bench.types import PrivacyLevel, Request, Target

_CASES_KEPT = 64
"""Cases whose placeholders are remembered; an older case gets new ones when it comes again."""


class Policy(Protocol):
    """What a guard has to know; a profile says it, and a sweep."""

    @property
    def images_may_leave(self) -> bool:
        """Whether images go to a cloud under ``deidentified``."""

    @property
    def nlp_model(self) -> str | None:
        """The model of language that finds names, if any."""

    @property
    def deidentifies(self) -> bool:
        """Whether de-identification will be needed."""


def stays(target: Target, provider: Provider) -> bool:
    """Whether a request stays on machines of one's own; only what surely does, does."""
    here = target.is_local and not is_cloud_tag(target.model)
    return here and provider.is_local is True


class Guard:
    """Decides whether a request may go to a cloud target, and takes identifiers out of it.

    Where de-identification will be needed the recognizers are made at once: loading them takes
    seconds, which no call should wait for. Where their library is missing, the calls that need it
    are refused.

    Args:
        policy: what may leave, besides the level of each request.
        recognizers: makes what finds identifiers that the case does not know.
    """

    def __init__(
        self, policy: Policy, *, recognizers: Callable[[str | None], Recognizer] = presidio
    ) -> None:
        self._images_may_leave = policy.images_may_leave
        self._nlp_model = policy.nlp_model
        self._make = recognizers
        self._recognize: Recognizer | None = None
        self._cases: OrderedDict[Identifiers, Case] = OrderedDict()
        if policy.deidentifies and is_installed():
            self._recognizer()

    def clear(
        self,
        request: Request,
        target: Target,
        level: PrivacyLevel | None,
        identifiers: Identifiers = Identifiers(),  # noqa: B008 - frozen
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
            return self._clear(request, target, level, identifiers)
        except (PrivacyError, ConfigError) as error:
            # These are worded without the data; where they come from may hold some.
            failure = str(error)
        except Exception as error:  # noqa: BLE001 - whatever fails here, nothing may leave
            failure = f"the privacy guard failed ({type(error).__name__}); choose a local target"
        raise PrivacyError(f"{target}: nothing was sent: {failure}")

    def _clear(
        self,
        request: Request,
        target: Target,
        level: PrivacyLevel | None,
        identifiers: Identifiers,
    ) -> Cleared:
        if level == "open":
            return Cleared(request=request, target=target, level=level)
        if level != "deidentified":
            what = "of unknown privacy" if level is None else "local_only"
            raise PrivacyError(f"the request is {what} and must not leave this machine")
        if not self._images_may_leave and any(message.images for message in request.messages):
            raise PrivacyError(
                "images may show who the patient is; choose a local target, or set images_may_leave"
                " in the profile if nothing is burned into their pixels"
            )
        clean = self._case(identifiers).deidentify(request)
        return Cleared(
            request=clean.request,
            target=target,
            level=level,
            replaced=clean.replaced,
            counts=clean.counts,
        )

    def _case(self, identifiers: Identifiers) -> Case:
        """The case with these identifiers; requests that know none have nothing in common."""
        case = self._cases.get(identifiers) or Case(identifiers, self._recognizer())
        if identifiers.values:
            self._cases[identifiers] = case
            self._cases.move_to_end(identifiers)
            while len(self._cases) > _CASES_KEPT:
                self._cases.popitem(last=False)
        return case

    def _recognizer(self) -> Recognizer:
        if self._recognize is None:
            self._recognize = self._make(self._nlp_model)
        return self._recognize
