"""Results of `experiments.tables` from other days or machines, used in place of new runs."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
from absl import logging

from dgin_tf.integrity import read_json
from dgin_tf.schema import Schema
from dgin_tf.training.loop import differences
from experiments.reporting import paper_tables
from experiments.running import runs
from experiments.running.program import program_digest
from experiments.running.starts import set_start
from experiments.running.tasks import DATA_SCHEMA

_PARTS = {"config", "seeds", "machine", "versions", "deviation", *runs.SPLITS}


class EarlierResults:
    """Results in files, of which the first ones take precedence.

    Args:
      paths: JSON files of `experiments.tables`.

    Raises:
      ValueError: one of them is not there, or has other content.
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
        """Finds the common result of a row of a table, None where no file has any of its seeds.

        It is that of the first file with all seeds; where there is none, that of the seeds of all files
        together, which may lack some. Seeds that another program trained are no part of it (see
        `program_digest`): a warning says which were left out.

        Args:
          data_set: its name in the tables.
          key: of the row, see `paper_tables.Row`.
          config: settings of the row; takes over the start that a file has chosen for it.
          data_dir: the data set; read only where a file records the schema of its runs.
          seeds: of the row; a result may have more of them.

        Raises:
          ValueError: a file has this row of the same program, but with another config.
        """
        parts, digest = [], program_digest(config.model.name)
        for path, results in self._files.items():
            result = results.get(data_set, {}).get(key)
            if result is None:
                continue
            all_seeds, result = (
                set(paper_tables.seed_values(result)),
                runs.of_program(result, digest),
            )
            known_seeds = set(paper_tables.seed_values(result)) if result else set()
            if others := sorted(all_seeds - known_seeds):
                logging.warning(
                    "%s: seeds %s of %s on %s are of another program and not taken.",
                    path,
                    others,
                    key,
                    data_set,
                )
            if result is None:
                continue
            before = {name: value for name, value in result["config"].items() if name != "seed"}
            if runs.STARTS in result:  # the row's start was chosen then
                network = result["config"]["network"]
                set_start(config, network["embedding_limit"], network["momentum"])
            now = runs.plain_config(config)
            if DATA_SCHEMA in before:
                now[DATA_SCHEMA] = Schema.load(data_dir).fingerprint()
            if differing_settings := differences(before, now):
                raise ValueError(
                    f"{path} holds {key} on {data_set} with another config, which differs in "
                    f"{', '.join(differing_settings)}; leave the file out of --results, or the model "
                    "out of --models."
                )
            if set(seeds) <= known_seeds:
                return result
            parts.append(result)  # too few seeds; other files may have more
        return runs.merge(parts) if parts else None


def _read(path: pathlib.Path) -> dict[str, dict[str, Any]]:
    advice = "leave it out of --results, or put it back as experiments.tables wrote it"
    content = read_json(path, "results of experiments.tables", advice)
    try:
        results = content["results"]
        parts = [set(result) for rows in results.values() for result in rows.values()]
    except (ValueError, TypeError, KeyError, AttributeError):  # whatever the file holds instead
        parts = [set()]
    if not all(part >= _PARTS for part in parts):
        raise ValueError(
            f"expected a JSON file that experiments.tables wrote, such as O/dien.json; {path} is none."
        )
    return results
