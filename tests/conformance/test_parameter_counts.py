"""Numbers of parameters of every model in the catalogue, by number; of the papers' models, derived.

A count that changes on purpose is changed in the commit that changes the model or its entry, by
`python -m tests.conformance.test_parameter_counts`, which writes parameter_counts.json anew.
"""

import json
import pathlib

import pytest

from dgin_tf.layers.group_statistics import logarithmic_boundaries
from dgin_tf.layers.time_gap import BUCKETS
from dgin_tf.models.registry import make_model
from dgin_tf.schema import FIRST_ID
from tests.conformance.catalogue import (
    BACKBONE,
    BEHAVIOR_TYPES,
    CATALOGUE,
    batch,
    built,
    schema_of,
)
from tests.prepared import CATEGORIES, ITEMS, USERS

# Entry -> [trainable, non-trainable], without what metrics count.
PATH = pathlib.Path(__file__).parent / "parameter_counts.json"
COUNTS = json.loads(PATH.read_text("utf-8"))

FIELD = BACKBONE.embedding_dim
EVENT = 2 * FIELD  # item and category
TABLES = FIELD * (USERS + ITEMS + CATEGORIES)
SHORT_INTEREST = EVENT  # of DIN's unit over the newest events


def parameters(model):
    """Trainable and non-trainable parameters of a model."""
    of_metrics = {id(v) for metric in model.metrics for v in metric.variables}
    return [
        sum(v.shape.num_elements() for v in variables if id(v) not in of_metrics)
        for variables in (model.trainable_variables, model.non_trainable_variables)
    ]


def dense(inputs, units, bias=True):
    return (inputs + bias) * units


def network(inputs, units, alphas=True):
    """Dense layers down to one number, with Dice, whose alpha is one for each unit."""
    sizes = [inputs, *units, 1]
    layers = sum(map(dense, sizes, sizes[1:]))
    return layers + alphas * sum(units)


def head(interests):
    """Scale and shift of batch normalization, and the network, on [user, target, interests]."""
    width = FIELD + EVENT + interests
    return 2 * width + network(width, BACKBONE.tower_units)


def gru(inputs, units):
    """Three gates of [input, state] with one bias."""
    return dense(inputs + units, 3 * units)


def din_unit(dim, units=(36,), alphas=True):
    """[q, k, q - k, q * k] -> hidden layers -> a score."""
    return network(4 * dim, units, alphas)


def dien():
    attention = (
        EVENT * EVENT
    )  # W of Eq. (9); the inner product of the auxiliary loss has no weights
    return TABLES + 2 * gru(EVENT, EVENT) + attention + head(EVENT)


def mimn(slots, units):
    controller = gru(EVENT + EVENT, units)  # on [event, what was read last]
    heads = dense(units, 4 * EVENT)  # a key to read and one to write, erasure and addition
    memory = slots * EVENT + slots * slots * slots  # M_0; W_g of Eq. (5) gives P, slots x slots
    channels = gru(EVENT + EVENT, units)  # Eq. (9), on [event, a slot]
    target_key = dense(EVENT, EVENT)
    # Attention over the channels: the projected target with PReLU, and 80-40 sigmoid units.
    attention = dense(EVENT, units) + units + din_unit(units, (80, 40), alphas=False)
    interests = EVENT + EVENT + units  # sum of the history, the memory's reading, the channels'
    encoder = controller + heads + memory + channels + target_key + attention
    return TABLES + encoder + head(interests)


def sim_hard(heads):
    reader = 2 * EVENT * EVENT  # W_q and W_k of all heads, Eq. (3); values are not projected
    long_interest = heads * EVENT  # heads side by side, Eq. (4)
    return TABLES + din_unit(EVENT) + reader + head(SHORT_INTEREST + long_interest)


def sim_soft(heads, dim):
    search = 2 * EVENT * dim  # W_a and W_b of Eq. (1)
    width = EVENT + EVENT  # of the network that trains them: [sum of weighed events, target]
    auxiliary = 2 * width + network(width, BACKBONE.tower_units)
    return sim_hard(heads) + search + auxiliary


def encode(dim):
    reduction = EVENT * dim
    return TABLES + din_unit(EVENT) + reduction + head(SHORT_INTEREST + EVENT)


def dgin(key, heads):
    assert key == "category_id"
    assert EVENT % heads == 0  # so that keys of all heads together are as wide as the candidate
    # Statistics: of events, of types, of each type and of different items, one table of buckets each.
    statistics = 3 + len(BEHAVIOR_TYPES)
    buckets = 1 + len(logarithmic_boundaries())
    attributes = FIELD * (BUCKETS + FIRST_ID + len(BEHAVIOR_TYPES))  # age and type of an event
    event = FIELD + 2 * FIELD  # in a group by category: the item, age, type
    group = (
        FIELD + statistics * FIELD + event
    )  # the category, statistics, what attention makes of events
    # Only the candidate's query is projected to its own width; the groups' keys follow it.
    attention = EVENT * EVENT + group * EVENT + 2 * group * group
    module = statistics * buckets * FIELD + attributes + 4 * event * event + attention
    event += FIELD  # the target module's events have their category too
    normalized = 2 * event
    feed_forward = dense(event, 4 * event) + dense(4 * event, event)
    block = 4 * event * event + 2 * normalized + feed_forward
    target_module = attributes + dense(EVENT, event) + 2 * block
    return TABLES + module + target_module + head(group + event)


# Model -> its derived number of trainable parameters, and the settings that it depends on.
DERIVED = {
    "dien": (dien, {}),
    "mimn": (mimn, {"slots": 3, "units": 5}),
    "sim_hard": (sim_hard, {"heads": 2}),
    "sim_soft": (sim_soft, {"heads": 2, "dim": 5}),
    "encode": (encode, {"dim": 2}),
    "dgin": (dgin, {"key": "category_id", "heads": 3}),
}


def test_every_entry_has_its_counts():
    assert set(COUNTS) == set(CATALOGUE)


@pytest.mark.parametrize("entry", CATALOGUE)
def test_a_model_has_as_many_parameters_as_written_down(entry):
    trainable, non_trainable = parameters(built(entry))
    pinned_counts = COUNTS.get(entry)
    assert [trainable, non_trainable] == pinned_counts, (
        f"{entry}: {trainable} trainable and {non_trainable} non-trainable parameters, where "
        f"parameter_counts.json has {pinned_counts}"
    )


@pytest.mark.parametrize("name", DERIVED)
def test_the_count_follows_from_the_sizes(name):
    derivation, settings = DERIVED[name]
    model = make_model(name, schema_of(name), BACKBONE, **settings)
    model(batch())
    assert parameters(model)[0] == derivation(**settings)


if __name__ == "__main__":
    lines = (f'  "{entry}": {parameters(built(entry))}' for entry in CATALOGUE)
    PATH.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
