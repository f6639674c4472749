"""Tables 2 to 7 and figures 1 and 3 of the ENCODE paper (Zhou et al., 2024), and what they claim.

Means over three runs. All but two columns of table 2 are of an industrial data set that was not
published. The relevance indicator of table 3 is the mean cross-entropy of a model's weights over past
events against those of DIN-L; `experiments.tables --measure` adds ours, and our time of a request to
figure 1. `experiments.inspect_relevance` prints the indicator of any runs.
"""

from experiments.reporting.paper_tables import PaperTable, Row

INDUSTRIAL = ("industrial AUC", "industrial GAUC")

_DIN = Row("din", "DIN", (0.71739, 0.67864))
_AVERAGE = Row("avg_pooling_long_din", "AvgPooling", (0.71985, 0.68180))
_DIN_LONG = Row("din_long", "DIN-L (upper bound)", (0.72290, 0.68651))
_ENCODE = (0.72312, 0.68626)

_OTHERS = PaperTable(
    title="Table 2: other methods",
    columns=("industrial AUC", "industrial ms", "Amazon Books", "MovieLens-32M"),
    rows=(
        Row("din", "DIN", (0.71739, 11.5, 0.63573, 0.79889)),
        Row("avg_pooling_long_din", "AvgPooling", (0.71985, 12.5, 0.86151, 0.80248)),
        Row("din_long", "DIN-L (upper bound)", (0.72290, 26.7, 0.88281, 0.80778)),
        Row("sim_hard", "SIM (hard)", (0.72206, 14.4, 0.88077, 0.80359)),
        Row("ubr4ctr", "UBR4CTR", (0.72182, 19.2, 0.87715, 0.80513)),
        Row("eta", "ETA", (0.72181, 16.2, 0.88163, 0.80566)),
        Row("twin", "TWIN", (0.72224, 18.0, 0.87474, 0.80536)),
        Row("sdim", "SDIM", (0.72210, 13.1, 0.86564, 0.80649)),
        Row("encode", "ENCODE", (0.72312, 13.6, 0.88402, 0.80772)),
        Row("encode_printed", "ENCODE, Eq. 9 as printed"),
    ),
)

TABLES = (
    _OTHERS,
    PaperTable(
        title="Table 3: metrics of relevance, and the relevance indicator",
        columns=(*INDUSTRIAL, "relevance indicator"),
        rows=(
            Row("sim_hard", "SIM (hard)", (0.72206, 0.68613, 6.910)),
            Row("ubr4ctr", "UBR4CTR", (0.72182, 0.68623, 6.932)),
            Row("eta", "ETA", (0.72181, 0.68587, 7.032)),
            Row("twin", "TWIN", (0.72224, 0.68590, 6.759)),
            Row("sdim", "SDIM", (0.72210, 0.68551, 6.919)),
            Row("encode_minus", "ENCODE-", (0.72250, 0.68663, 6.731)),
            Row("encode", "ENCODE", (*_ENCODE, 6.170)),
        ),
        measures=("relevance indicator",),
    ),
    PaperTable(
        title="Table 4: variants of ETA",
        columns=INDUSTRIAL,
        rows=(
            _DIN,
            Row("eta", "ETA, 64 bits", (0.72181, 0.68587)),
            Row("eta_ta", "ETA-TA, 32 numbers", (0.72230, 0.68568)),
            Row("eta_encode", "ETA-ENCODE, 4 numbers", (0.72242, 0.68607)),
        ),
    ),
    PaperTable(
        title="Table 5: where positives and negatives come from",
        columns=INDUSTRIAL,
        rows=(
            _DIN,
            Row("encode_neighbours", "Within neighbors", (0.72243, 0.68664)),
            Row("encode_batch", "Within batch", (0.72273, 0.68594)),
            Row("encode", "Within sequence", _ENCODE),
        ),
    ),
    PaperTable(
        title="Table 6: losses of the dimension reduction",
        columns=INDUSTRIAL,
        rows=(
            _DIN,
            _AVERAGE,
            _DIN_LONG,
            Row("encode_mse", "MSE", (0.72021, 0.68270)),
            Row("encode_no_loss", "None", (0.72209, 0.68614)),
            Row("encode_n_pair", "N-pair-mc", (0.72218, 0.68557)),
            Row("encode_fixed", "Triplets, fixed margin", (0.72255, 0.68593)),
            Row("encode", "Triplets, dynamic margin", _ENCODE),
        ),
    ),
    PaperTable(
        title="Table 7: clustering",
        columns=INDUSTRIAL,
        rows=(
            _DIN,
            Row("encode_random", "Random", (0.72188, 0.68484)),
            Row("encode_dynamic_routing", "Dynamic routing", (0.72234, 0.68517)),
            Row("encode_agglomerative", "Agglomerative", (0.72256, 0.68532)),
            Row("encode", "K-means", _ENCODE),
        ),
    ),
    PaperTable(
        title="Figure 1: accuracy against the time of a request",
        columns=_OTHERS.columns[:2],
        rows=tuple(
            Row(row.model, row.label, row.paper_values[:2])
            for row in sorted(_OTHERS.rows, key=lambda row: row.paper_values[1:2])
            if row.paper_values and row.model != "din"  # which reads no long history
        ),
        measures=("request ms",),
    ),
    PaperTable(
        title="Figure 3 (a): number of clusters, best at 30",
        columns=(),
        rows=(
            Row("encode_10_clusters", "10 clusters"),
            Row("encode_20_clusters", "20 clusters"),
            Row("encode", "30 clusters"),
            Row("encode_40_clusters", "40 clusters"),
            Row("encode_50_clusters", "50 clusters"),
            Row("encode_100_clusters", "100 clusters"),
            Row("encode_300_clusters", "300 clusters"),
            Row(_DIN_LONG.model, _DIN_LONG.label),
        ),
    ),
    PaperTable(
        title="Figure 3 (b): width of the reduced events, best at 4",
        columns=(),
        rows=(
            Row("encode_2_dims", "2 numbers"),
            Row("encode", "4 numbers"),
            *(Row(f"encode_{m}_dims", f"{m} numbers") for m in range(6, 17, 2)),
        ),
    ),
    PaperTable(
        title="Not in the paper: the gradient through the weights of Eq. 8",
        columns=(),
        rows=(
            Row("encode", "ENCODE, constant weights"),
            Row("encode_gradient", "ENCODE, gradient through Eq. 8"),
        ),
    ),
)

CLAIMS = (
    ("din", "avg_pooling_long_din"),
    ("avg_pooling_long_din", "encode"),
    ("sim_hard", "encode"),
    ("ubr4ctr", "encode"),
    ("eta", "encode"),
    ("twin", "encode"),
    ("sdim", "encode"),
    ("encode_minus", "encode"),
    ("eta", "eta_ta"),
    ("eta", "eta_encode"),
    ("encode_neighbours", "encode"),
    ("encode_batch", "encode"),
    ("encode_mse", "encode_no_loss"),
    ("encode_no_loss", "encode_fixed"),
    ("encode_fixed", "encode"),
    ("encode_random", "encode_dynamic_routing"),
    ("encode_dynamic_routing", "encode_agglomerative"),
    ("encode_agglomerative", "encode"),
)

# No public figures on the reference examples of MovieLens-1M.
YARDSTICKS: dict[str, dict[str, float]] = {}
