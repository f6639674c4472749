"""Tables of a paper beside our own results: rows, paired tests, and whether the claims hold."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from dgin_tf import metrics

Results = Mapping[str, Mapping[str, Mapping[str, Any]]]  # data set -> model -> common result

LEVEL = 0.05  # a claim holds where its paired test is below


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a paper's table.

    Attributes:
      model: what the paper's configs call it, mostly its name in the registry.
      label: its name in the paper.
      printed: the paper's AUC, one a column; NaN where it has none.
    """

    model: str
    label: str
    printed: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class PaperTable:
    """One table of a paper.

    Attributes:
      title: its caption.
      columns: the paper's data sets.
      rows: its rows, in the paper's order.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def seed_values(result: Mapping[str, Any], figure: str = "auc") -> list[float]:
    """The test figure of every seed of a common result."""
    return [seed["test"][figure] for seed in result["seeds"]]


def compare(results: Mapping[str, Mapping[str, Any]], worse: str, better: str) -> dict[str, Any]:
    """Whether one model beats another on one data set, by the paired test over seeds.

    Args:
      results: model -> common result, of the same seeds.
      worse, better: models, as the claim has them.

    Returns:
      `worse`, `better`, `difference` of the mean AUC, one-sided `p_value`, and `holds`.
    """
    test = metrics.paired_test(seed_values(results[better]), seed_values(results[worse]))
    holds = bool(test["difference"] > 0 and test["p_value"] < LEVEL)
    return {"worse": worse, "better": better, **test, "holds": holds}


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
    """A table as Markdown: the paper's figures, then ours for every data set.

    Args:
      table: the paper's.
      results: ours; rows without results are left out.
      yardsticks: data set -> model -> AUC of public code on the same examples.

    Returns:
      The title and a table with, for each data set, mean and deviation of the test AUC over seeds,
      GAUC, log loss, the gain over the row above with its paired test, and the yardstick.
    """
    head = ["model", *(f"paper, {column}" for column in table.columns)]
    for name in results:
        head += [f"{name}: AUC", "GAUC", "log loss", "gain on the row above (p)"]
        head += ["public code"] if name in yardsticks else []
    lines = [f"### {table.title}", "", _line(head), _line(["---"] * len(head))]
    previous = None
    for row in table.rows:
        if all(row.model in models for models in results.values()):
            lines.append(_line(_cells(row, previous, results, yardsticks)))
            previous = row
    return "\n".join(lines) + "\n"


def claims_markdown(claims: Sequence[Mapping[str, Any]], labels: Mapping[str, str]) -> str:
    """The claimed orders as Markdown, and whether each holds."""
    head = ["data", "claim", "gain in AUC", "p, one-sided", "holds"]
    lines = ["### Claimed orders", "", _line(head), _line(["---"] * len(head))]
    for claim in claims:
        order = f"{labels[claim['worse']]} < {labels[claim['better']]}"
        verdict = "yes" if claim["holds"] else "no"
        gain, p_value = f"{claim['difference']:+.4f}", _p(claim["p_value"])
        lines.append(_line([claim["data"], order, gain, p_value, verdict]))
    return "\n".join(lines) + "\n"


def _cells(row, previous, results, yardsticks):
    cells = [row.label, *("-" if value != value else f"{value:.4f}" for value in row.printed)]
    for name, models in results.items():
        result = models[row.model]
        test, deviation = result["test"], result["deviation"]["test"]
        spread = f" ± {deviation['auc']:.4f}" if len(result["seeds"]) > 1 else ""
        gain = "-"
        if previous is not None:
            found = compare(models, previous.model, row.model)
            gain = f"{found['difference']:+.4f} ({_p(found['p_value'])})"
        cells += [f"{test['auc']:.4f}{spread}", f"{test['gauc']:.4f}", f"{test['log_loss']:.4f}"]
        cells.append(gain)
        if name in yardsticks:
            value = yardsticks[name].get(row.model)
            cells.append(f"{value:.3f}" if value else "-")
    return cells


def _p(value: float) -> str:
    if value != value:
        return "one seed"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
