"""Columns of impressions beside those of events: label, request, split, weight and rate of negatives."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pandas as pd

from data_prep.events import NO_IMPRESSION, SPLIT
from data_prep.readers.rows import Rows
from data_prep.readers.side_files import number_option, text_option
from data_prep.stages.splits import TEST, TRAIN, VALIDATION
from dgin_tf.records import LABEL
from dgin_tf.schema import MILLIONTHS, NEGATIVE_RATE, REQUEST, SAMPLE_WEIGHT

_LARGEST_WEIGHT = 1e9

SPLIT_NUMBERS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("validation", "valid", "val", "dev"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TEST),
}


@dataclasses.dataclass(frozen=True)
class ImpressionColumns:
    """Names in the file of an impression's own columns; all are empty where the log holds events.

    Attributes:
      label, request, split: names of the columns; only `label` must be there.
      threshold: labels from this on are clicks; None expects 0 or 1.
      weight: column of the samples' weights, finite and not negative.
      rate: column of the share of ignored impressions that the log kept, above 0 up to 1.
      negative_rate: the same for all impressions, instead of a column.
    """

    label: str = ""
    request: str = ""
    split: str = ""
    threshold: float | None = None
    weight: str = ""
    rate: str = ""
    negative_rate: float | None = None

    @classmethod
    def of_options(cls, options: Mapping[str, object]) -> "ImpressionColumns":
        """The columns that the options name; raises ValueError for any of them without a label."""
        label, request, split, weight, rate = (
            text_option(options, f"{name}_column")
            for name in ("label", "request", "split", "weight", "negative_rate")
        )
        threshold = number_option(options, "label_threshold")
        negative_rate = number_option(options, "negative_rate")
        columns = cls(label, request, split, threshold, weight, rate, negative_rate)
        if not label and (columns != cls() or options.get("behaviors")):
            raise ValueError(
                "expected request_column, split_column, weight_column, negative_rate, label_threshold and "
                "behaviors beside a label_column, which tells clicked impressions from ignored ones; got none."
            )
        if negative_rate is not None and (rate or not 0 < negative_rate <= 1):
            raise ValueError(
                "expected negative_rate above 0 up to 1, and no negative_rate_column beside it; got "
                f"{negative_rate:g} and column {rate!r}."
            )
        return columns

    @property
    def columns(self) -> tuple[str, ...]:
        """Canonical names of all columns of impressions, those that no file has too."""
        constant = () if self.negative_rate is None else (NEGATIVE_RATE,)
        return (*self.by_canonical_name(), *constant)

    def by_canonical_name(self) -> dict[str, str]:
        """Canonical name -> name in the file, of the columns that the file has."""
        names = {
            LABEL: self.label,
            REQUEST: self.request,
            SPLIT: self.split,
            SAMPLE_WEIGHT: self.weight,
            NEGATIVE_RATE: self.rate,
        }
        return {canonical: name for canonical, name in names.items() if name}

    def encode(self, rows: Rows, path: str) -> Rows:
        """The rows with labels as 0 or 1, splits as their numbers, weights and rates in millionths.

        Rows without a weight, or with a rate that is none, are rejected.

        Raises:
          ValueError: a label is neither 0 nor 1 and there is no threshold, or a split has another name.
        """
        rows = self._with_millionths(rows)
        labels = rows.table[LABEL].to_numpy(np.float64)
        if self.threshold is not None:
            clicks = labels >= self.threshold
            wrong = np.isnan(labels)
            expected = "a number"
        else:
            clicks = labels == 1.0
            wrong = ~(clicks | (labels == 0.0))
            expected = "0 or 1, or --label_threshold=T for ratings that count as 1 from T on"
        if wrong.any():
            raise ValueError(
                f"{path}: expected {self.label} to be {expected}; got {labels[wrong][0]:g}."
            )
        columns = {LABEL: clicks.astype(np.int64)}
        if self.split:
            codes, names = pd.factorize(rows.table[SPLIT])
            numbers = np.array(
                [SPLIT_NUMBERS.get(str(name).strip().lower(), -1) for name in names], np.int64
            )
            if (numbers < 0).any():
                raise ValueError(
                    f"{path}: expected {self.split} to be one of {', '.join(SPLIT_NUMBERS)}; got "
                    f"{names[numbers < 0][0]!r}."
                )
            columns[SPLIT] = numbers[codes]
        return dataclasses.replace(rows, table=rows.table.assign(**columns))

    def _with_millionths(self, rows: Rows) -> Rows:
        """The rows with weights and rates in millionths."""
        for name, column, largest in (
            (SAMPLE_WEIGHT, self.weight, _LARGEST_WEIGHT),
            (NEGATIVE_RATE, self.rate, 1.0),
        ):
            if not column:
                continue
            numbers = rows.table[name].to_numpy(np.float64)
            smallest = 0.0 if name == SAMPLE_WEIGHT else 1 / MILLIONTHS
            wrong = ~((numbers >= smallest) & (numbers <= largest))
            rows = rows.reject(wrong, f"{column} is not from {smallest:g} to {largest:g}")
            millionths = np.rint(numbers[~wrong] * MILLIONTHS).astype(np.int64)
            rows = dataclasses.replace(rows, table=rows.table.assign(**{name: millionths}))
        if self.negative_rate is not None:
            rate = {NEGATIVE_RATE: round(self.negative_rate * MILLIONTHS)}
            rows = dataclasses.replace(rows, table=rows.table.assign(**rate))
        return rows

    def without_impressions(self, rows: Rows) -> Rows:
        """Rows of a behavior log beside the impressions: marked as none."""
        missing = dict.fromkeys(self.columns, NO_IMPRESSION)
        return dataclasses.replace(rows, table=rows.table.assign(**missing))
