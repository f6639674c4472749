"""Feature specifications of NVIDIA's DeepLearningExamples: a YAML file that lists the files of a data set.

Of it `source_spec` is read: for each part (`train`, `test`) chunks of files of one `type` with the `features` that
are their columns, in order, since the files have no line of names.
"""

import os
import pathlib
from collections.abc import Sequence

import yaml

ENDINGS = (".yaml", ".yml")
_TYPES = ("csv", "parquet")


def tables_of(path: str) -> tuple[list[str], tuple[str, ...]]:
    """Files of all parts, in the order of the specification, and their columns (() for Parquet).

    Raises:
      ValueError: the file is no specification, or of another type of files than csv and Parquet.
    """
    try:
        content = yaml.safe_load(pathlib.Path(path).read_text(encoding="utf-8"))
        chunks = [chunk for part in content["source_spec"].values() for chunk in part]
        kinds = {(str(chunk["type"]), tuple(map(str, chunk["features"]))) for chunk in chunks}
        files = [str(name) for chunk in chunks for name in chunk["files"]]
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: expected a feature specification, whose source_spec has chunks with type, features and "
            f"files; got {' '.join(str(error).split())[:200] or type(error).__name__!r}."
        ) from error
    types = sorted({kind for kind, _ in kinds})
    if len(kinds) != 1 or types[0] not in _TYPES:
        raise ValueError(
            f"{path}: expected chunks of one type, csv or parquet, with the same features in the same order; got "
            f"{len(kinds)} kinds, of type {', '.join(types)}. Convert the files, or prepare the log that they "
            "were made of."
        )
    ((kind, features),) = kinds
    return [os.path.join(os.path.dirname(path), name) for name in files], (
        features if kind == "csv" else ()
    )


def is_specification(paths: Sequence[str]) -> bool:
    """True where the input is one feature specification."""
    return len(paths) == 1 and paths[0].endswith(ENDINGS)
