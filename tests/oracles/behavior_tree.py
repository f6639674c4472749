"""SIM's user behavior tree as nested dictionaries of whole events: slow and plain."""

from collections import defaultdict

from dgin_tf.records import decode_record, read_records
from dgin_tf.schema import HISTORY, feature_name


def histories_of(data_dir, schema, shards):
    """User -> list of events, each a dict of the history fields, oldest first."""
    found = {}
    for shard in shards:
        for payload in read_records(data_dir / shard.path):
            record = decode_record(schema, payload)
            columns = {
                field.name: record[feature_name(HISTORY, field)].tolist()
                for field in schema.with_role(HISTORY)
            }
            rows = zip(*columns.values(), strict=True)
            found[int(record["user_id"][0])] = [
                dict(zip(columns, row, strict=True)) for row in rows
            ]
    return found


def tree_of(histories, key, max_events_per_key):
    """User -> key -> its newest events, oldest first."""
    tree = {}
    for user, history in histories.items():
        tree[user] = defaultdict(list)
        for event in history:
            tree[user][event[key]].append(event)
        for value, events in tree[user].items():
            tree[user][value] = events[-max_events_per_key:]
    return tree


def lookup(tree, histories, user, keys):
    """The events of some keys as columns, in the order of the history."""
    wanted = [id(event) for key in set(keys) for event in tree.get(user, {}).get(key, [])]
    events = [event for event in histories.get(user, []) if id(event) in set(wanted)]
    return {name: [event[name] for event in events] for name in (events[0] if events else {})}
