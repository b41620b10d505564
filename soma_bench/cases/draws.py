"""Random draws that are the same on every machine and with every version.

The raw words of numpy's PCG64 are promised never to change, which its distributions are not; so
everything is made from the words by whole-number arithmetic.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

T = TypeVar("T")


class Draws:
    """A stream of draws; other words give an independent stream.

    Args:
        seed: the seed that a user gives.
        purpose: what the stream is for, so that one use never shifts another.
    """

    def __init__(self, seed: int, *purpose: str) -> None:
        from numpy.random import PCG64

        text = "\0".join([str(seed), *purpose])
        self._words = PCG64(int.from_bytes(hashlib.sha256(text.encode()).digest()))

    def below(self, count: int) -> int:
        """A whole number from 0 to ``count - 1``."""
        return int(self._words.random_raw()) % count

    def between(self, low: float, high: float) -> float:
        """A number from ``low`` to ``high``."""
        return low + (high - low) * self.below(1 << 32) / ((1 << 32) - 1)

    def choice(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[self.below(len(items))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """The items in another order (Fisher and Yates)."""
        order = list(items)
        for last in range(len(order) - 1, 0, -1):
            other = self.below(last + 1)
            order[last], order[other] = order[other], order[last]
        return order

    def noise(self, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
        """Independent values of mean 0 and standard deviation 1, each the sum of 8 bytes."""
        import numpy as np

        words = np.asarray(self._words.random_raw(shape[0] * shape[1])).astype("<u8")
        sums = words.view(np.uint8).reshape(*shape, 8).sum(axis=-1, dtype=np.int32)
        # A byte has mean 127.5 and variance (256^2 - 1) / 12.
        values: npt.NDArray[np.float64] = (sums - 8 * 127.5) / np.sqrt(8 * (256**2 - 1) / 12)
        return values
