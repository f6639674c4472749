"""Amazon product reviews, in the layouts of 2014 and 2018, plain or compressed.

Reviews are JSON lines in both: `reviewerID`, `asin`, `unixReviewTime`, `overall`. The metadata differ:

- 2014 (what DIEN and MIMN used): Python literals, single quotes, nested `categories`, numeric `price`.
  The category is the last element of the first path, as in DIEN's released `process_data.py`;
- 2018: JSON lines, one flat `category` list, `price` a string. The category is its last element.

An item of which the metadata say nothing has the category unknown; of an item that occurs twice the
first line counts, also as in DIEN's code. Literals are read by `ast.literal_eval`, which builds values
and runs nothing.
"""

import ast
import dataclasses
import functools
import os
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
from absl import logging

from data_prep.events import CATEGORY, ITEM, TIME, USER, Chunk, bad_rows, id_keys, make_chunk
from data_prep.readers.base import Piece, Reader, file_pieces
from data_prep.readers.cells import DECIMAL, INTEGER, WORD, checked_value
from data_prep.readers.parsers import JsonLines, RowParser, load_json, read_json
from data_prep.readers.rows import Rows, check_layout, read_rows
from data_prep.readers.side_files import bare_name, beside, number_option, text_option, the_only
from data_prep.readers.side_table import CategoryTable

_REVIEWER, _ASIN, _SECONDS, _STARS = "reviewerID", "asin", "unixReviewTime", "overall"
_NAMES = {_REVIEWER: USER, _ASIN: ITEM, _SECONDS: TIME}
_META = re.compile(r"meta_(.*)\.json")
_REVIEWS = re.compile(r"(?:reviews_)?(.*?)(?:_[0-9]+)?\.json")  # reviews_Books_5, Books_5, Books
# A 2014 line that holds each of these once: their values can be read without the rest of the line.
_LITERAL_ASIN = re.compile(rb"'asin': '([^'\\\r\n]+)'")
_LITERAL_PATHS = re.compile(rb"'categories': (\[(?:\[[^\[\]\n]*\](?:, )?)+\])[,}]")


class AmazonReader(Reader):
    """Reads a review file with its metadata, named after it or in --input.

    The input is the review file (its `meta_` file is looked for beside it), both files, or a folder
    with one review file. Without metadata the log has no categories, and a warning says so.

    Options: `meta`, the metadata, whatever they are called; `min_rating`, the lowest `overall` that is an event (all reviews if None, as in DIEN).
    """

    where_to_get_it = (
        "Expected reviews of one category in JSON lines, such as reviews_Electronics_5.json.gz of 2014 "
        "(with meta_Electronics.json.gz) from https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html "
        "or Electronics_5.json.gz of 2018 from https://nijianmo.github.io/amazon/; download both and "
        "pass them as --input (they are never downloaded for you)."
    )
    official_counts = {
        "Amazon Books 2014, 5-core": {"events": 8_898_041, "users": 603_668, "items": 367_982},
        "Amazon Electronics 2014, 5-core": {"events": 1_689_188, "users": 192_403, "items": 63_001},
    }

    def __init__(self, paths: Sequence[str], options: Mapping[str, object]):
        super().__init__(_review_files(paths, self.where_to_get_it), options)
        named = text_option(options, "meta")
        self._metas = _meta_files([*paths, *([named] if named else [])], self.paths, named)
        self.has_categories = bool(self._metas)
        self._min_rating = number_option(options, "min_rating")
        if not self.has_categories:
            logging.warning(
                "no metadata beside %s: items have no categories. %s",
                ", ".join(self.paths),
                self.where_to_get_it,
            )

    def files(self) -> tuple[str, ...]:
        return (*self.paths, *self._metas)

    def pieces(self) -> list[Piece]:
        for path in self.paths:
            check_layout(path, self._parser, f"JSON lines with {_REVIEWER}, {_ASIN} and {_SECONDS}")
        for path in self._metas:
            check_layout(
                path, MetaLines(), "JSON lines or Python literals with asin and categories"
            )
        return [piece for path in self.files() for piece in file_pieces(path)]

    def read(self, piece: Piece) -> Iterator[Chunk]:
        """Yields the reviews of a piece; pieces of metadata hold no events, only their bad rows."""
        if piece.path in self._metas:
            for rows in read_rows(piece, MetaLines()):
                nothing = pd.DataFrame({USER: [], ITEM: [], TIME: []}).astype(
                    {USER: str, ITEM: str, TIME: np.int64}
                )
                yield self._chunk(nothing, rows)
            return
        for rows in read_rows(piece, self._parser):
            if self._min_rating is not None:
                rows = rows.keep(rows.table[_STARS].to_numpy() >= self._min_rating)
            yield self._chunk(rows.table.rename(columns=_NAMES), rows)

    @property
    def _parser(self) -> JsonLines:
        types = {_REVIEWER: WORD, _ASIN: WORD, _SECONDS: INTEGER}
        return JsonLines(types if self._min_rating is None else {**types, _STARS: DECIMAL})

    @functools.cached_property
    def _categories(self) -> CategoryTable:
        return CategoryTable.build(
            (id_keys(rows.table[_ASIN])[0], rows.table[CATEGORY])
            for path in self._metas
            for piece in file_pieces(path)
            for rows in read_rows(piece, MetaLines())
        )

    def _chunk(self, events: pd.DataFrame, rows: Rows) -> Chunk:
        chunk = make_chunk(events, rows.lines, bad_rows(rows.bad))
        if not self.has_categories:
            return chunk
        names = self._categories.names
        return dataclasses.replace(
            chunk,
            columns={**chunk.columns, CATEGORY: self._categories.find(chunk.columns[ITEM])},
            names={**chunk.names, CATEGORY: pd.Series(dtype=object) if names is None else names},
        )


class MetaLines(RowParser):
    """Lines of a metadata file of either year as `asin` and `category_id` ("" if it has none)."""

    schema = pa.schema([(_ASIN, pa.string()), (CATEGORY, pa.string())])

    def parse_many(self, block: bytes) -> pa.Table | None:
        if block.startswith(b"{'"):
            return self._literals(block)
        table = read_json(block, _META_SCHEMA)
        if table is None or table.column(_ASIN).null_count:
            return None
        asin, lists = (
            table.column(_ASIN).combine_chunks(),
            table.column("category").combine_chunks(),
        )
        if not pa.compute.all(
            pa.compute.match_substring_regex(asin, _ONE_LINE), min_count=0
        ).as_py():
            return None
        # Last category of each list, by its offset in the flat values; null for empty lists.
        length = pa.compute.fill_null(pa.compute.list_value_length(lists), 0).to_numpy()
        last = pa.array(lists.offsets.to_numpy()[1:] - 1, mask=length == 0)
        category = pa.compute.fill_null(lists.values.take(last), "")
        if pa.compute.any(
            pa.compute.match_substring_regex(category, r"[\n\r]"), min_count=0
        ).as_py():
            return None
        return pa.table([asin, category], schema=self.schema)

    def _literals(self, block: bytes) -> pa.Table | None:
        """A block of 2014 lines; None where one needs a closer look."""
        asins, categories = [], []
        category_of: dict[bytes, str] = {}  # the same path occurs in many lines
        try:
            for line in block.removesuffix(b"\n").split(b"\n"):
                asin, paths = _LITERAL_ASIN.findall(line), _LITERAL_PATHS.findall(line)
                if len(asin) != 1 or len(paths) != 1 or line.count(b"'categories':") != 1:
                    row = self.parse_one(line)
                    asins.append(row[_ASIN])
                    categories.append(row[CATEGORY])
                    continue
                if paths[0] not in category_of:
                    category_of[paths[0]] = _category({"categories": _literal(paths[0])})
                asins.append(asin[0].decode())
                categories.append(category_of[paths[0]])
        except ValueError:
            return None
        return pa.table([asins, categories], schema=self.schema)

    def parse_one(self, line: bytes) -> dict[str, object]:
        line = line.strip()
        content = _literal(line) if line.startswith(b"{'") else load_json(line)
        if not isinstance(content, dict):
            raise ValueError(f"expected a dict, got {type(content).__name__}")
        return {
            _ASIN: checked_value(_ASIN, content.get(_ASIN), WORD),
            CATEGORY: _category(content),
        }


_META_SCHEMA = pa.schema([(_ASIN, pa.string()), ("category", pa.list_(pa.string()))])
_ONE_LINE = r"^[^\n\r]+$"


def _literal(text: bytes) -> object:
    """Parses a Python literal; raises ValueError with the reason if it is none."""
    try:
        return ast.literal_eval(text.decode())
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f"no Python literal ({type(error).__name__})") from None


def _category(content: Mapping[str, object]) -> str:
    """Last element of the first path of `categories`, or of `category`; "" where there is none."""
    path = content.get("category", [])
    if "categories" in content:
        paths = content["categories"]
        path = paths[0] if isinstance(paths, list) and paths else paths
    if path in (None, [], ""):
        return ""
    if not isinstance(path, list):
        raise ValueError(f"expected a list of categories, got {type(path).__name__}")
    return "" if path[-1] in (None, "") else str(checked_value("category", path[-1], WORD))


def _review_files(paths: Sequence[str], where_to_get_it: str) -> list[str]:
    """The review file of each folder, and every input file that is no metadata."""
    files = []
    for path in paths:
        if os.path.isdir(path):
            inside = beside(os.path.join(path, "reviews"), r"(?!meta_).*\.json")
            if not inside:
                raise FileNotFoundError(f"no review file in {path!r}. {where_to_get_it}")
            files.append(the_only(inside, "review file"))
        elif not _META.fullmatch(bare_name(path)):
            files.append(path)
    return files


def _meta_files(paths: Sequence[str], reviews: Sequence[str], named: str) -> tuple[str, ...]:
    """The metadata among the input files and the named one, or else of each review file by name, beside it."""
    metas = [path for path in paths if path == named or _META.fullmatch(bare_name(path))]
    for path in metas:
        if not os.path.isfile(path):
            raise FileNotFoundError(f"no metadata file {path!r}; check --input.")
    if metas:
        return tuple(metas)
    for path in reviews:
        match = _REVIEWS.fullmatch(bare_name(path))
        beside_it = beside(path, rf"meta_{re.escape(match[1])}\.json") if match else []
        if beside_it:
            metas.append(the_only(beside_it, "metadata file"))
    return tuple(metas)
