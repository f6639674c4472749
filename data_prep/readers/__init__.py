"""Readers of raw logs: one layout each, found by name in `READERS`."""

from data_prep.readers.amazon import AmazonReader
from data_prep.readers.base import Reader
from data_prep.readers.longctr import LongCtrReader
from data_prep.readers.mind import MindReader
from data_prep.readers.movielens import MovieLensReader
from data_prep.readers.table import TableReader
from data_prep.readers.taobao import TaobaoReader

READERS: dict[str, type[Reader]] = {
    "amazon": AmazonReader,
    "longctr": LongCtrReader,
    "mind": MindReader,
    "movielens": MovieLensReader,
    "table": TableReader,
    "taobao": TaobaoReader,
}
