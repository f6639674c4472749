"""Tables 2 and 3 of the SIM paper (Pi et al., 2020), what they claim, and searches that came later."""

from experiments.reporting.paper_tables import PaperTable, Row

NOT_RUN = float("nan")  # the paper has no times for Amazon

TABLES = (
    PaperTable(
        title="Table 2: results on public data sets",
        columns=("Taobao", "Amazon"),
        rows=(
            Row("din", "DIN", (0.9214, 0.7276)),
            Row("avg_pooling_long_din", "Avg-Pooling Long DIN", (0.9281, 0.7280)),
            Row("mimn", "MIMN", (0.9278, 0.7396)),
            Row("sim_soft", "SIM(soft)", (0.9416, 0.7510)),
            Row("sim_soft_time", "SIM(soft) with Timeinfo", (0.9501, NOT_RUN)),
        ),
    ),
    PaperTable(
        title="Table 3: effect of the two stages",
        columns=("Taobao", "Amazon"),
        rows=(
            Row("avg_pooling_long_din", "Avg-Pooling Long DIN", (0.9281, 0.7280)),
            Row("sim_hard_first_stage", "Only First Stage (hard)", (0.9330, 0.7365)),
            Row("sim_soft_first_stage", "Only First Stage (soft)", (0.9357, 0.7342)),
            Row("sim_hard", "SIM(hard)", (0.9332, 0.7413)),
            Row("sim_soft", "SIM(soft)", (0.9416, 0.7510)),
            Row("sim_soft_time", "SIM(soft) with Timeinfo", (0.9501, NOT_RUN)),
        ),
    ),
    PaperTable(
        title="Not in the paper: later searches, and attention over everything",
        columns=(),
        rows=(
            Row("sim_hard_time", "SIM(hard) with Timeinfo", ()),
            Row("ubr4ctr", "UBR4CTR", ()),
            Row("eta", "ETA", ()),
            Row("sdim", "SDIM", ()),
            Row("twin", "TWIN", ()),
            Row("din_long", "DIN-L, target attention over everything", ()),
        ),
    ),
)

CLAIMS = (
    ("din", "avg_pooling_long_din"),
    ("avg_pooling_long_din", "sim_hard_first_stage"),
    ("avg_pooling_long_din", "sim_hard"),
    ("mimn", "sim_soft"),
    ("sim_hard", "sim_soft"),
    ("sim_hard_first_stage", "sim_hard"),
    ("sim_soft_first_stage", "sim_soft"),
    ("sim_soft", "sim_soft_time"),
)

# Test AUC of a public re-implementation (LongCTR) on the reference examples of MovieLens-1M, by the
# name that a data set has on the command line: negatives drawn uniformly, or by popularity.
YARDSTICKS = {
    "uniform": {"sim_soft": 0.890, "eta": 0.888, "sdim": 0.887, "twin": 0.889},
    "popular": {"sim_soft": 0.757, "twin": 0.761},
}
