"""Tables 2 and 4 of the DIEN paper (Zhou et al., 2019), and what they claim.

The paper's data sets are Amazon Electronics and Books. Absolute figures of other data cannot be
compared with them; the orders can. The last table is of this project: the models as the authors'
released code builds them, which is what the yardsticks below were measured with.
"""

from experiments.reporting.paper_tables import PaperTable, Row

TABLES = (
    PaperTable(
        title="Table 2: results on public data sets",
        columns=("Electronics", "Books"),
        rows=(
            Row("base_model", "BaseModel", (0.8538, 0.8846)),
            Row("wide_deep", "Wide&Deep", (0.8546, 0.8656)),
            Row("pnn", "PNN", (0.8582, 0.8935)),
            Row("din", "DIN", (0.8608, 0.8974)),
            Row("two_layer_gru_attention", "Two-layer GRU attention", (0.8640, 0.8993)),
            Row("dien", "DIEN", (0.9030, 0.9281)),
        ),
    ),
    PaperTable(
        title="Table 4: effect of AUGRU and the auxiliary loss",
        columns=("Electronics", "Books"),
        rows=(
            Row("base_model", "BaseModel", (0.8538, 0.8846)),
            Row("two_layer_gru_attention", "Two-layer GRU attention", (0.8640, 0.8993)),
            Row("aigru", "BaseModel + GRU + AIGRU", (0.8663, 0.8994)),
            Row("agru", "BaseModel + GRU + AGRU", (0.8666, 0.8993)),
            Row("augru", "BaseModel + GRU + AUGRU", (0.8675, 0.9021)),
            Row("dien", "DIEN", (0.9030, 0.9281)),
        ),
    ),
    PaperTable(
        title="The authors' released models",
        columns=(),
        rows=(
            Row("base_model_released", "BaseModel (released)"),
            Row("pnn_released", "PNN (released)"),
            Row("din_released", "DIN (released)"),
        ),
    ),
)

# What the text says is better than what; not every neighbor in a table is claimed to be.
CLAIMS = (
    ("base_model", "pnn"),
    ("base_model", "din"),
    ("base_model", "two_layer_gru_attention"),
    ("din", "augru"),
    ("aigru", "augru"),
    ("agru", "augru"),
    ("augru", "dien"),
)

# Test AUC of the authors' released code on the reference examples of MovieLens-1M, by the name that a
# data set has on the command line: negatives drawn uniformly, or in proportion to popularity.
YARDSTICKS = {
    "uniform": {
        "base_model": 0.879,
        "wide_deep": 0.880,
        "pnn": 0.892,
        "din": 0.894,
        "two_layer_gru_attention": 0.894,
        "dien": 0.923,
    },
    "popular": {"base_model": 0.725, "pnn": 0.771, "din": 0.772, "augru": 0.812, "dien": 0.847},
}
