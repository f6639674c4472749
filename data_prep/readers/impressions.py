"""Columns of impressions beside those of events: the label, the request and the split."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pandas as pd

from data_prep.events import NO_IMPRESSION, SPLIT
from data_prep.readers.rows import Rows
from data_prep.readers.side_files import text_option
from data_prep.stages.splits import TEST, TRAIN, VALIDATION
from dgin_tf.records import LABEL
from dgin_tf.schema import REQUEST

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
    """

    label: str = ""
    request: str = ""
    split: str = ""
    threshold: float | None = None

    @classmethod
    def of_options(cls, options: Mapping[str, object]) -> "ImpressionColumns":
        """The columns that the options name; raises ValueError for any of them without a label."""
        label, request, split = (
            text_option(options, name)
            for name in ("label_column", "request_column", "split_column")
        )
        threshold = options.get("label_threshold")
        if not label and (request or split or threshold is not None or options.get("behaviors")):
            raise ValueError(
                "expected request_column, split_column, label_threshold and behaviors beside a "
                "label_column, which tells clicked impressions from ignored ones; got none."
            )
        return cls(label, request, split, None if threshold is None else float(str(threshold)))

    def by_canonical_name(self) -> dict[str, str]:
        """Canonical name -> name in the file, of the columns that the file has."""
        names = {LABEL: self.label, REQUEST: self.request, SPLIT: self.split}
        return {canonical: name for canonical, name in names.items() if name}

    def encode(self, rows: Rows, path: str) -> Rows:
        """The rows with labels as 0 or 1 and splits as their numbers.

        Raises:
          ValueError: a label is neither 0 nor 1 and there is no threshold, or a split has another name.
        """
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

    def without_impressions(self, rows: Rows) -> Rows:
        """Rows of a behavior log beside the impressions: marked as none."""
        missing = dict.fromkeys(self.by_canonical_name(), NO_IMPRESSION)
        return dataclasses.replace(rows, table=rows.table.assign(**missing))
