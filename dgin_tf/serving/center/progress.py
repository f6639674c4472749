"""Position in a user's stream of events, by which a repeated delivery changes nothing.

The numbers of a user's events rise, but may have gaps: they may be positions in a log that others write
to as well. An event is therefore never held back for those before it, since one lost event would then
keep everything behind it from being acknowledged. Skipped numbers are remembered, so that a late event
is told from a repeated one: the former can no longer be folded in, because the order of events matters
to a memory, and has to be reported; the latter is nothing new.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

MAX_GAPS = 16  # 256 bytes

NEW, REPEATED, LATE, FORGOTTEN = "new", "repeated", "late", "forgotten"

_TIMES, _GAPS = ".times", ".gaps"  # no state tensor has such a name


@dataclasses.dataclass(frozen=True)
class Progress:
    """The part of a user's stream that a state includes.

    Attributes:
      sequence: highest number that was read; 0 before the first.
      newest: second of the newest event.
      included_until: the state includes all events up to this second, whatever their numbers, because
        it began with a history; -1 where it began empty.
      gaps: ranges of skipped numbers, first and last, rising.
      forgotten_until: up to this number there were more gaps than fit; 0 where all fit.
    """

    sequence: int = 0
    newest: int = 0
    included_until: int = -1
    gaps: tuple[tuple[int, int], ...] = ()
    forgotten_until: int = 0

    @classmethod
    def up_to(cls, newest: int) -> "Progress":
        """Progress of a state encoded from a history.

        Args:
          newest: second of the history's newest event; -1 for no events.
        """
        return cls(newest=max(newest, 0), included_until=newest)

    def order_of(self, sequence: int) -> str:
        """Relation of an event's number to the stream.

        Returns:
          `NEW`, `REPEATED`, `LATE`, or `FORGOTTEN` where the last two cannot be told apart anymore.
        """
        if sequence > self.sequence:
            return NEW
        if sequence <= self.forgotten_until:
            return FORGOTTEN
        return LATE if any(low <= sequence <= high for low, high in self.gaps) else REPEATED

    def after(self, sequence: int, newest: int | None = None) -> "Progress":
        """Progress after reading an event that is new or late.

        Args:
          sequence: its number.
          newest: its second, where the state now includes it.
        """
        gaps = list(self.gaps)
        if sequence > self.sequence + 1:
            gaps.append((self.sequence + 1, sequence - 1))
        elif sequence <= self.sequence:
            # A late event divides the gap that it fills.
            gaps = [part for gap in gaps for part in _without(gap, sequence)]
        overflow = gaps[:-MAX_GAPS]
        return dataclasses.replace(
            self,
            sequence=max(self.sequence, sequence),
            newest=self.newest if newest is None else newest,
            gaps=tuple(gaps[-MAX_GAPS:]),
            forgotten_until=overflow[-1][1] if overflow else self.forgotten_until,
        )

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Arrays to store beside a state, which has a place of its own for the sequence number."""
        times = [self.newest, self.included_until, self.forgotten_until]
        arrays = {_TIMES: np.array(times, np.int64)}
        return arrays | ({_GAPS: np.array(self.gaps, np.int64)} if self.gaps else {})

    @staticmethod
    def is_in(arrays: Mapping[str, np.ndarray]) -> bool:
        """True for arrays of which `to_arrays` wrote some."""
        return _TIMES in arrays

    @classmethod
    def from_arrays(cls, sequence: int, arrays: Mapping[str, np.ndarray]) -> "Progress":
        """Inverse of `to_arrays`."""
        newest, included_until, forgotten_until = arrays[_TIMES].tolist()
        gaps = arrays[_GAPS].tolist() if _GAPS in arrays else []
        pairs = tuple((low, high) for low, high in gaps)
        return cls(sequence, newest, included_until, pairs, forgotten_until)


def state_arrays(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a stored value without those of `Progress.to_arrays`."""
    return {name: array for name, array in arrays.items() if name not in (_TIMES, _GAPS)}


def _without(gap: tuple[int, int], number: int) -> list[tuple[int, int]]:
    low, high = gap
    if not low <= number <= high:
        return [gap]
    return [(a, b) for a, b in ((low, number - 1), (number + 1, high)) if a <= b]
