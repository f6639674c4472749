"""UserBehavior.csv, Tianchi data set 649: `user,item,category,behavior,timestamp`, no header.

User behavior of 25 November to 3 December 2017, Beijing time: pv (click), buy, cart, fav. The full
file holds a few thousand rows outside these nine days (years from 1902 to 2037 among them); they are
quarantined unless another `time_window` is given.
"""

from collections.abc import Iterator, Mapping, Sequence

from data_prep.events import BEHAVIOR, CATEGORY, ITEM, TIME, USER, Chunk, bad_rows, make_chunk
from data_prep.readers.base import Piece, Reader, file_pieces
from data_prep.readers.cells import INTEGER
from data_prep.readers.parsers import Delimited
from data_prep.readers.rows import read_rows

BEHAVIORS = ("pv", "buy", "cart", "fav")
# 2017-11-25 00:00:00 to 2017-12-03 23:59:59, UTC+8.
OFFICIAL_WINDOW = (1511539200, 1512316799)

_LAYOUT = Delimited(
    (USER, ITEM, CATEGORY, BEHAVIOR, TIME),
    {USER: INTEGER, ITEM: INTEGER, CATEGORY: INTEGER, BEHAVIOR: BEHAVIORS, TIME: INTEGER},
)


class TaobaoReader(Reader):
    """Reads UserBehavior.csv, plain or compressed.

    Options: `time_window`, a pair (first, last) second that overrides the official nine days.
    """

    behavior_types = BEHAVIORS
    where_to_get_it = (
        "UserBehavior.csv is Tianchi data set 649; log in at "
        "https://tianchi.aliyun.com/dataset/649, download UserBehavior.csv.zip, unpack it, and pass "
        "its path as --input (it is never downloaded for you)."
    )
    official_counts = {
        "Taobao UserBehavior": {
            "events": 100_150_807,
            "users": 987_994,
            "items": 4_162_024,
            "categories": 9_439,
        }
    }

    def __init__(self, paths: Sequence[str], options: Mapping[str, object]):
        super().__init__(paths, options)
        window = options.get("time_window")
        self.time_window = OFFICIAL_WINDOW if window is None else tuple(window)  # type: ignore[arg-type,assignment]

    def pieces(self) -> list[Piece]:
        return [piece for path in self.paths for piece in file_pieces(path)]

    def read(self, piece: Piece) -> Iterator[Chunk]:
        for rows in read_rows(piece, _LAYOUT):
            for name in (USER, ITEM, CATEGORY):
                rows = rows.reject(rows.table[name].to_numpy() < 0, f"negative {name}")
            if self.time_window is not None:
                first, last = self.time_window
                # Quarantined, not dropped: the counts stay comparable with the official ones.
                seconds = rows.table[TIME].to_numpy()
                outside = (seconds < first) | (seconds > last)
                rows = rows.reject(outside, f"timestamp outside {self.time_window}")
            yield make_chunk(rows.table, rows.lines, bad_rows(rows.bad))
