"""How far a person's stream has been read: what makes a delivery that comes again change nothing.

The numbers of a person's events rise, but need not follow each other without gaps: they may be
positions in a log that others write to as well. An event is therefore never held back for those before
it, since one lost event would then keep everything behind it from being acknowledged. What was passed
over is remembered, so that an event that comes late is told from one that comes again: the former can
no longer be folded in, because the order of events matters to a memory, and has to be reported; the
latter is nothing new.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

MOST_GAPS = 16  # 256 bytes

NEW, REPEATED, LATE, FORGOTTEN = "new", "repeated", "late", "forgotten"

_TIMES, _GAPS = ".times", ".gaps"  # no state tensor has such a name


@dataclasses.dataclass(frozen=True)
class Progress:
    """What of a person's stream a state includes.

    Attributes:
      sequence: highest number that was read; 0 before the first.
      newest: second of the newest event.
      included_until: the state includes all events up to this second, whatever their numbers, because
        it began with a history; -1 where it began empty.
      gaps: ranges of numbers that were passed over, first and last, rising.
      forgotten_until: up to here there were more gaps than are kept; 0 where there were not.
    """

    sequence: int = 0
    newest: int = 0
    included_until: int = -1
    gaps: tuple[tuple[int, int], ...] = ()
    forgotten_until: int = 0

    @classmethod
    def up_to(cls, newest: int) -> "Progress":
        """Of a state that was made of a history whose newest event is of this second; -1 for none."""
        return cls(newest=max(newest, 0), included_until=newest)

    def place(self, sequence: int) -> str:
        """Whether an event of this number is `NEW`, `REPEATED`, `LATE`, or, where nobody can tell the
        last two apart any more, `FORGOTTEN`."""
        if sequence > self.sequence:
            return NEW
        if sequence <= self.forgotten_until:
            return FORGOTTEN
        return LATE if any(low <= sequence <= high for low, high in self.gaps) else REPEATED

    def after(self, sequence: int, newest: int | None = None) -> "Progress":
        """The progress once an event that is new or late has been read.

        Args:
          sequence: its number.
          newest: its second, where the state now includes it.
        """
        gaps = list(self.gaps)
        if sequence > self.sequence + 1:
            gaps.append((self.sequence + 1, sequence - 1))
        elif sequence <= self.sequence:
            gaps = [part for gap in gaps for part in _without(gap, sequence)]
        dropped = gaps[:-MOST_GAPS]
        return dataclasses.replace(
            self,
            sequence=max(self.sequence, sequence),
            newest=self.newest if newest is None else newest,
            gaps=tuple(gaps[-MOST_GAPS:]),
            forgotten_until=dropped[-1][1] if dropped else self.forgotten_until,
        )

    def to_arrays(self) -> dict[str, np.ndarray]:
        """What is stored beside a state; the sequence number has a place of its own there."""
        known = [self.newest, self.included_until, self.forgotten_until]
        arrays = {_TIMES: np.array(known, np.int64)}
        return arrays | ({_GAPS: np.array(self.gaps, np.int64)} if self.gaps else {})

    @classmethod
    def from_arrays(cls, sequence: int, arrays: Mapping[str, np.ndarray]) -> "Progress":
        """Inverse of `to_arrays`."""
        newest, included_until, forgotten_until = arrays[_TIMES].tolist()
        gaps = arrays[_GAPS].tolist() if _GAPS in arrays else []
        kept = tuple((low, high) for low, high in gaps)
        return cls(sequence, newest, included_until, kept, forgotten_until)


def state_arrays(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The state alone, of what is stored."""
    return {name: array for name, array in arrays.items() if name not in (_TIMES, _GAPS)}


def _without(gap: tuple[int, int], number: int) -> list[tuple[int, int]]:
    low, high = gap
    if not low <= number <= high:
        return [gap]
    return [(a, b) for a, b in ((low, number - 1), (number + 1, high)) if a <= b]
