"""Tables of a paper with our results beside its own: rows, paired tests, and verdicts on claims."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from dgin_tf import metrics
from experiments.running import runs
from experiments.running.program import PROGRAM, program_digest

Results = Mapping[str, Mapping[str, Mapping[str, Any]]]  # data set -> key of a row -> common result

LEVEL = 0.05  # of significance, for the paired tests of claims
VERDICTS = {True: "yes", False: "no", None: "not tested"}


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a paper's table.

    Attributes:
      model: its name in the paper's configs, mostly that in the registry.
      label: its name in the paper.
      paper_values: the paper's figures, mostly AUC, one a column; NaN where it has none.
      override: settings in which the row differs from the model's config, such as
        {"model.slots": 8}.
    """

    model: str
    label: str
    paper_values: tuple[float, ...] = ()
    override: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def key(self) -> str:
        """Name of the row's results and runs: the model, and the values of `override`."""
        return "_".join([self.model, *map(str, self.override.values())])


@dataclasses.dataclass(frozen=True)
class PaperTable:
    """One table of a paper.

    Attributes:
      title: its caption.
      columns: the paper's data sets; none where the paper prints no figures.
      rows: its rows, in the paper's order.
      measures: measurements of our runs beside their test metrics, names in
        `experiments.analysis.measures.MEASURES`; columns of ours, where any row has them.

    Raises:
      ValueError: a row has figures of the paper, but not one a column.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    measures: tuple[str, ...] = ()

    def __post_init__(self):
        for row in self.rows:
            if row.paper_values and len(row.paper_values) != len(self.columns):
                raise ValueError(
                    f"{row.label} in {self.title!r} expects {len(self.columns)} printed figures, one a "
                    f"column, or none; got {len(row.paper_values)}."
                )


def seed_values(result: Mapping[str, Any], metric: str = "auc") -> dict[int, float]:
    """Seed -> a test metric of its run, of a common result."""
    return {entry["seed"]: entry["test"][metric] for entry in result["seeds"]}


def compare(results: Mapping[str, Mapping[str, Any]], worse: str, better: str) -> dict[str, Any]:
    """Compares two models on one data set by the paired test over the seeds of both.

    Args:
      results: key of a row -> common result.
      worse, better: keys of rows, as the claim has them.

    Returns:
      `worse`, `better`, `seeds` that both have, `aucs`, the mean AUC of each over these, `difference` of
      the two, one-sided `p_value`, and `holds`, None where a single seed leaves the noise unknown.
    """
    high, low = seed_values(results[better]), seed_values(results[worse])
    seeds = [seed for seed in high if seed in low]  # a paired test needs both
    pairs = [low[seed] for seed in seeds], [high[seed] for seed in seeds]
    test = metrics.paired_test(pairs[1], pairs[0])
    no_test = math.isnan(test["p_value"])
    holds = None if no_test else bool(test["difference"] > 0 and test["p_value"] < LEVEL)
    aucs = [sum(values) / len(seeds) if seeds else math.nan for values in pairs]
    shared = {"seeds": seeds, "aucs": aucs}
    return {"worse": worse, "better": better, **shared, **test, "holds": holds}


def check_claims(results: Results, claims: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """`compare` for every claim and data set for which there are results of both models."""
    return [
        {"data": name, **compare(models, worse, better)}
        for name, models in results.items()
        for worse, better in claims
        if worse in models and better in models
    ]


def markdown(
    table: PaperTable, results: Results, yardsticks: Mapping[str, Mapping[str, float]]
) -> str:
    """Formats a table as Markdown: the paper's figures, then ours for every data set.

    Args:
      table: the paper's.
      results: ours; a row without results on any data set is left out, and has empty cells where it
        lacks them on one of several.
      yardsticks: data set -> model -> AUC of public code on the same examples.

    Returns:
      The title and a table with, for each data set, mean and deviation of the test AUC over seeds, the
      number of these seeds and what sets them apart (see `seeds_of`), GAUC, log loss, the gain over the
      row above with its paired test, the measurements, and the yardstick. A gain is over the seeds that
      both rows have; where one has more, the means over the shared ones stand beside it. Empty where
      none of its rows has results.
    """
    measures = {name: _measures(table, models) for name, models in results.items()}
    head = ["model", *(f"paper, {column}" for column in table.columns)]
    for name in results:
        head += [f"{name}: AUC", "seeds", "GAUC", "log loss", "gain on the row above (p)"]
        head += measures[name]
        head += ["public code"] if name in yardsticks else []
    lines = [f"### {table.title}", "", _line(head), _line(["---"] * len(head))]
    previous = None
    for row in table.rows:
        if any(row.key in models for models in results.values()):
            lines.append(_line(_cells(table, row, previous, results, measures, yardsticks)))
            previous = row  # gains are over the last row with results, not over an empty one
    return "\n".join(lines) + "\n" if previous else ""


def seeds_of(result: Mapping[str, Any]) -> str:
    """Number of a row's seeds, and why they may not be comparable with those of other rows.

    Args:
      result: the row's common result.

    Returns:
      For example "5" or "3; 2 end on the limit of 6 epochs; of an earlier program".
    """
    config, places = result["config"], runs.origins(result)
    notes, limit = [str(len(result["seeds"]))], config["loop"]["epochs"]
    if at_limit := sum(entry["best_epoch"] >= limit for entry in result["seeds"]):
        notes.append(f"{at_limit} end on the limit of {limit} epochs")
    # Versions until 0.5 wrote no digest, but their number.
    programs = {place[PROGRAM] or place["versions"].get("dgin_tf") for place in places}
    if len(programs) > 1:
        notes.append("of several programs")
    elif programs != {program_digest(config["model"]["name"])}:
        notes.append("of an earlier program")
    return "; ".join(notes)


def claims_markdown(claims: Sequence[Mapping[str, Any]], labels: Mapping[str, str]) -> str:
    """Formats the claimed orders and their verdicts as Markdown."""
    head = ["data", "claim", "AUC of both", "seeds", "gain in AUC", "p, one-sided", "holds"]
    lines = ["### Claimed orders", "", _line(head), _line(["---"] * len(head))]
    for claim in claims:
        order = f"{labels[claim['worse']]} < {labels[claim['better']]}"
        verdict = VERDICTS[claim["holds"]]
        gain, p_value = f"{claim['difference']:+.4f}", _p(claim["p_value"])
        both = " and ".join(f"{auc:.4f}" for auc in claim["aucs"])
        seeds = str(len(claim["seeds"]))
        lines.append(_line([claim["data"], order, both, seeds, gain, p_value, verdict]))
    return "\n".join(lines) + "\n"


def origin(results: Results, labels: Mapping[str, str]) -> str:
    """Formats the origin of the results: one line, or one for each machine and its versions.

    Args:
      results: ours.
      labels: key of a row -> its name in the table.
    """
    rows: dict[str, dict[str, list[str]]] = {}  # place in full -> data set -> labels
    short = ""
    for name, models in results.items():
        for key, result in models.items():
            for place in runs.origins(result):
                short, full = _place(place)
                rows.setdefault(full, {}).setdefault(name, []).append(labels[key])
    # One place is one line for all rows; several are listed with their rows.
    measurement_lines = _origin_of_measurements(results)
    if len(rows) == 1:
        return "\n".join([short, *measurement_lines])
    lines = ["The rows were not all run in one place:", ""]
    for full, labels_by_data in rows.items():
        which = "; ".join(f"{name}: {', '.join(names)}" for name, names in labels_by_data.items())
        lines.append(f"- {which}: {full}")
    return "\n".join([*lines, *measurement_lines])


def _origin_of_measurements(results):
    """Lines with the machines of measurements beside test metrics; none without such measurements."""
    machines = [
        result[runs.MEASURED_ON]
        for models in results.values()
        for result in models.values()
        if runs.MEASURED_ON in result
    ]
    places = dict.fromkeys(f"{machine['cpu']}, {machine['cores']} cores" for machine in machines)
    return ["", f"Measured, of one seed each, on {'; '.join(places)}."] if places else []


def _place(place: Mapping[str, Any]) -> tuple[str, str]:
    """Place where seeds were run, in short and in full."""
    machine, count = place["machine"], len(place["seeds"])
    seeds = f"{count} seeds" if count > 1 else "one seed"
    short = (
        f"{seeds} each; {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB; TensorFlow {place['versions']['tensorflow']}."
    )
    versions = ", ".join(f"{package} {version}" for package, version in place["versions"].items())
    gpus = ", ".join(machine["gpus"]) or "no GPU"
    return short, f"{short} {machine['system']}, {gpus}; {versions}."


def _measures(table, models):
    """Names of the measures that any of a table's rows has on one data set, in the table's order."""
    rows = [models[row.key].get(runs.MEASURED, {}) for row in table.rows if row.key in models]
    return [name for name in table.measures if any(name in values for values in rows)]


def _cells(table, row, previous, results, measures, yardsticks):
    paper_values = row.paper_values or [math.nan] * len(table.columns)
    # NaN, the only value that differs from itself, is a cell that the paper leaves empty.
    cells = [row.label, *("-" if value != value else f"{value:.4f}" for value in paper_values)]
    for name, models in results.items():
        cells += _metrics(row, previous, models) if row.key in models else [""] * 5
        values = models.get(row.key, {}).get(runs.MEASURED, {})
        cells += [f"{values[m]:.2f}" if m in values else "-" for m in measures[name]]
        if name in yardsticks:
            # Public code is a yardstick for our model by its paper and by its released code.
            value = yardsticks[name].get(row.model.removesuffix("_released"))
            cells.append(f"{value:.3f}" if value else "-")
    return cells


def _metrics(row, previous, models):
    result = models[row.key]
    test, deviation = result["test"], result["deviation"]["test"]
    spread = f" ± {deviation['auc']:.4f}" if len(result["seeds"]) > 1 else ""
    gain = "-"
    if previous is not None and previous.key in models:
        shared = compare(models, previous.key, row.key)
        gain = f"{shared['difference']:+.4f} ({_p(shared['p_value'])})"
        count = len(shared["seeds"])
        if count < max(len(result["seeds"]), len(models[previous.key]["seeds"])):
            low, high = shared["aucs"]
            gain += f", {low:.4f} to {high:.4f} over {count} shared"
    figures = [f"{test['gauc']:.4f}", f"{test['log_loss']:.4f}"]
    return [f"{test['auc']:.4f}{spread}", seeds_of(result), *figures, gain]


def _p(value: float) -> str:
    if value != value:  # NaN: a test needs two
        return "one seed"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
