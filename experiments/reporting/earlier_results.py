"""Results that `experiments.tables` wrote on other days or machines, to be taken instead of trained."""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from dgin_tf.schema import Schema
from dgin_tf.training.loop import differences
from experiments.reporting import paper_tables
from experiments.running import runs

_PARTS = {"config", "seeds", "machine", "versions", "deviation", *runs.SPLITS}


class EarlierResults:
    """The results in some files, the first files first.

    Args:
      paths: JSON files of `experiments.tables`.

    Raises:
      FileNotFoundError: one of them is not there.
      ValueError: one of them is another kind of file.
    """

    def __init__(self, paths: Sequence[str | os.PathLike]):
        self._files = {os.fspath(path): _read(pathlib.Path(path)) for path in paths}

    def find(
        self,
        data_set: str,
        key: str,
        config: ml_collections.ConfigDict,
        data_dir: str | os.PathLike,
        seeds: Sequence[int],
    ) -> Mapping[str, Any] | None:
        """The common result of a row of a table, or None where no file has any of its seeds.

        It is that of the first file with all of them; where there is none, of the seeds of all files
        together, which are fewer than wanted as long as others are not trained.

        Args:
          data_set: its name in the tables.
          key: of the row, see `paper_tables.Row`.
          config: settings that are wanted now.
          data_dir: the data set that is meant; read only where a file says under which schema its
            runs were trained.
          seeds: that are wanted now; a result may have more of them.

        Raises:
          ValueError: a file has this row, but with another config.
        """
        parts = []
        for path, results in self._files.items():
            result = results.get(data_set, {}).get(key)
            if result is None:
                continue
            found = {name: value for name, value in result["config"].items() if name != "seed"}
            wanted = runs.plain_config(config)
            if runs.DATA_SCHEMA in found:
                wanted[runs.DATA_SCHEMA] = Schema.load(data_dir).fingerprint()
            if runs.STATISTIC_EDGES in found:
                wanted = json.loads(json.dumps(runs.with_edges(wanted, Schema.load(data_dir))))
            if differing := differences(found, wanted):
                raise ValueError(
                    f"{path} holds {key} on {data_set} with another config, which differs in "
                    f"{', '.join(differing)}; leave the file out of --results, or the model out of "
                    "--models."
                )
            if set(seeds) <= set(paper_tables.seed_values(result)):
                return result
            parts.append(result)
        return runs.merge(parts) if parts else None


def _read(path: pathlib.Path) -> dict[str, dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    try:
        results = json.loads(text)["results"]
        parts = [set(result) for rows in results.values() for result in rows.values()]
    except (ValueError, TypeError, KeyError, AttributeError):
        parts = [set()]
    if not all(part >= _PARTS for part in parts):
        raise ValueError(
            f"expected a JSON file that experiments.tables wrote, such as O/dien.json; {path} is none."
        )
    return results
