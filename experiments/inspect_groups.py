"""Prints and draws the lengths of histories before and after grouping (figure 1 of the DGIN paper).

    python -m experiments.inspect_groups --data_dir=D --keys=item_id,category_id --output_dir=O

Samples are ranked by the length of their history; the table has events and groups at some quantiles,
then the share of groups by their number of events. Writes `O/groups_KEY.png` for every key. Any
prepared data set will do; no model is needed. Training histories are the default: items that do not
occur in them share one id, and so one group.
"""

import sys

from absl import flags

from dgin_tf.commands import command_line
from dgin_tf.inputs.pipeline import PreparedData
from dgin_tf.inspection import group_lengths, plots
from dgin_tf.ownership import claim
from dgin_tf.records import SPLITS, decode_record, read_records, shard_paths


def measure(data: PreparedData, split: str, key: str) -> group_lengths.GroupLengths:
    """Lengths before and after grouping of every sample of a split."""
    paths = shard_paths(data.data_dir, data.shards(split))
    # Records hold whole histories; batches would cut them to the longest that a model reads.
    records = (decode_record(data.schema, payload) for p in paths for payload in read_records(p))
    return group_lengths.measure(records, key)


def table(lengths: group_lengths.GroupLengths, key: str) -> str:
    """Both halves of the figure as lines of text."""
    lines = [
        f"{key}: {len(lengths.events):,} samples",
        f"{'quantile':>10}{'events':>10}{'groups':>10}",
    ]
    for quantile, events, groups in group_lengths.at_quantiles(lengths):
        lines.append(f"{quantile:>10.0%}{events:>10,}{groups:>10,}")
    shares = group_lengths.size_shares(lengths)
    text = ", ".join(f"{name}: {share:.3f}" for name, share in shares)
    lines.append(f"share of groups by events: {text}")
    return "\n".join(lines) + "\n"


def define_flags(values: flags.FlagValues) -> None:
    """Adds the command's flags to `values`; not on import, since tests import this module."""
    flags.DEFINE_string("data_dir", None, "Prepared data set.", flag_values=values, required=True)
    flags.DEFINE_list("keys", ["item_id"], "Fields to group by, or session.", flag_values=values)
    flags.DEFINE_enum("split", "train", SPLITS, "Whose histories to group.", flag_values=values)
    flags.DEFINE_string("output_dir", None, "Where the plots go.", flag_values=values)
    flags.mark_flag_as_required("output_dir", values)


def main(_: object) -> None:
    """Prints a table and writes a plot for every key."""
    values = flags.FLAGS
    data = PreparedData(values.data_dir)
    names = {key: f"groups_{key}.png" for key in values.keys}
    folder = claim(values.output_dir, "plots of groups", names.values())
    for key, name in names.items():
        lengths = measure(data, values.split, key)
        sys.stdout.write(table(lengths, key))
        figure = plots.grouping_lengths(
            group_lengths.at_quantiles(lengths), group_lengths.size_shares(lengths)
        )
        path = folder / name
        path.write_bytes(plots.to_png(figure))
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    define_flags(flags.FLAGS)
    command_line.run(main)
