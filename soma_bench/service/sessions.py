"""Who is being reported on, for a while: sessions in memory that expire, so that no patient stays."""

from __future__ import annotations

import time
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable
from itertools import takewhile

from soma_bench.agents.conversation import Exchange
from soma_bench.pipeline import AnalysisResult, Session
from soma_bench.service.base64_files import Base64File
from soma_bench.service.failures import RequestError
from soma_bench.types import Image

_EXCHANGES = 6
"""Earlier questions that a talk remembers."""


class Conversation:
    """A client's session: perhaps a case on its way, and what was said about it.

    Args:
        session: the case; None before a report was asked for.
        file: the file of the case's picture.
    """

    def __init__(self, session: Session | None = None, file: Base64File | None = None) -> None:
        self.id = session.id if session is not None else uuid.uuid4().hex
        self.session = session
        self.file = file
        self.picture: Image | None = None
        """What the case's Radiologist may be shown; None before the file was read."""
        self.picture_bytes = 0 if file is None else len(file.encoded)
        """What its picture takes in memory."""
        self.said: deque[Exchange] = deque(maxlen=_EXCHANGES)

    @property
    def result(self) -> AnalysisResult | None:
        """The latest report; None where there is none."""
        return None if self.session is None else self.session.result

    def see(self, picture: Image) -> None:
        """Take what the file shows in the file's place."""
        self.picture, self.file, self.picture_bytes = picture, None, len(picture.data)

    def see_nothing(self) -> None:
        """Forget the file, which shows nothing."""
        self.file, self.picture_bytes = None, 0

    @property
    def state(self) -> str:
        """The case's state; ``created`` where there is no case yet."""
        return "created" if self.session is None else self.session.state


class Conversations:
    """The sessions of the service; it belongs to one event loop.

    Args:
        ttl_s: a session that is not used for so long is forgotten.
        most: above it, the one that was not used for longest is forgotten.
        most_bytes: likewise for the pictures of all sessions together.
        busy: whether a session has work going on, and must stay.
    """

    def __init__(
        self, *, ttl_s: float, most: int, most_bytes: int, busy: Callable[[str], bool]
    ) -> None:
        self._ttl_s = ttl_s
        self._most = most
        self._most_bytes = most_bytes
        self._busy = busy
        self._used: OrderedDict[str, tuple[Conversation, float]] = OrderedDict()
        """By id, the one that was used last at the end; with the time of its last use."""

    def __len__(self) -> int:
        return len(self._used)

    def add(self, conversation: Conversation) -> Conversation:
        """Keep a session; an idle one makes room where there is none.

        Raises:
            RequestError: all sessions are busy.
        """
        self.forget_expired()
        while self._used and not self._has_room(conversation):
            idle = next((known for known in self._used if not self._busy(known)), None)
            if idle is None:
                raise RequestError(
                    f"The service has {len(self)} sessions at work; please try again in a moment",
                    status=503,
                )
            del self._used[idle]
        self._used[conversation.id] = (conversation, time.monotonic())
        return conversation

    def _has_room(self, conversation: Conversation) -> bool:
        held = sum(known.picture_bytes for known, _ in self._used.values())
        enough = held + conversation.picture_bytes <= self._most_bytes
        return enough and len(self._used) < self._most

    def find(self, session_id: str | None) -> Conversation | None:
        """The session of that id, which counts as used now; None where there is none."""
        self.forget_expired()
        known = self._used.get(session_id or "")
        if known is None:
            return None
        conversation, _ = known
        self._used[conversation.id] = (conversation, time.monotonic())
        self._used.move_to_end(conversation.id)
        return conversation

    def remove(self, session_id: str) -> bool:
        """Forget a session; False where there is none."""
        return self._used.pop(session_id, None) is not None

    def forget_expired(self) -> None:
        """Forget what was not used for too long and has no work going on."""
        oldest_s = time.monotonic() - self._ttl_s
        expired = takewhile(lambda item: item[1][1] < oldest_s, self._used.items())
        for known in [known for known, _ in expired if not self._busy(known)]:
            del self._used[known]
