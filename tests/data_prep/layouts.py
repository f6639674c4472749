"""Tiny logs in the layouts of public data sets, under the names that docs/layouts.md gives them."""

import gzip
import json
import pathlib

import numpy as np
import pandas as pd

DAY = 1_573_570_800  # 2019-11-12 15:00 UTC
FLAGS = {"Action": 1, "Comedy": 5, "Drama": 8}


def events(users=20, count=10, items=30, seed=0) -> pd.DataFrame:
    """Events of each user at rising seconds, and a label."""
    rng = np.random.default_rng(seed)
    rows = users * count
    return pd.DataFrame(
        {
            "user": np.repeat(np.arange(1, users + 1), count),
            "item": rng.integers(1, items + 1, rows),
            "second": DAY + np.sort(rng.integers(0, 10**6, (users, count))).reshape(-1),
            "label": rng.integers(0, 2, rows),
        }
    )


def ml_100k(folder: pathlib.Path) -> pathlib.Path:
    """u.data, u.item and u.user."""
    (folder / "u.data").write_text(f"3\t1\t5\t{DAY}\n5\t2\t3\t{DAY + 9}\n3\t7\t4\t{DAY + 20}\n")
    lines = []
    for movie, title, genres in ((1, "Toy Story", ["Comedy"]), (2, "Amélie", ["Drama", "Action"])):
        flags = ["0"] * 19
        for genre in genres:
            flags[FLAGS[genre]] = "1"
        lines.append("|".join([str(movie), title, "01-Jan-1995", "", "http://x", *flags]))
    (folder / "u.item").write_text("\n".join(lines) + "\n", encoding="latin-1")
    (folder / "u.user").write_text("3|24|M|technician|85711\n5|53|F|other|94043\n")
    return folder


def mind(folder: pathlib.Path, part="train", users=("U1", "U2")) -> pathlib.Path:
    """behaviors.tsv and news.tsv of one part."""
    folder = folder / f"MINDsmall_{part}"
    folder.mkdir()
    lines = [
        f"1\t{users[0]}\t11/12/2019 3:00:02 PM\tN1 N2\tN3-1 N4-0",
        f"2\t{users[1]}\t11/12/2019 10:22:32 AM\t\tN1-0 N3-1 N2-0",
        f"3\t{users[0]}\t11/13/2019 12:00:00 AM\tN1 N2\tN1-0",
    ]
    (folder / "behaviors.tsv").write_text("\n".join(lines) + "\n")
    news = [f"N{n}\tc{n % 2}\tsub\tTitle {n}\tabout\thttps://x\t[]\t[]" for n in range(1, 5)]
    (folder / "news.tsv").write_text("\n".join(news) + "\n")
    return folder


def longctr(folder: pathlib.Path, users=11, seed=0) -> tuple[list[list[int]], pd.DataFrame]:
    """Samples of every second place of the users' sequences, and the sequences."""
    rng = np.random.default_rng(seed)
    sequences = [rng.integers(1, 40, rng.integers(9, 23)).tolist() for _ in range(users)]
    frame = pd.DataFrame({"user_index": range(users), "full_item_seq": sequences})
    frame.to_parquet(folder / "user_info.parquet", row_group_size=4)
    rows = [
        (user, items[place], place, float(rng.random() < 0.4))
        for user, items in enumerate(sequences)
        for place in range(1, len(items), 2)
    ]
    samples = pd.DataFrame(rows, columns=["user_index", "item_index", "seq_len", "is_click"])
    for number, split in enumerate(("train", "valid", "test")):
        samples[samples.index % 3 == number].to_parquet(folder / f"{split}.parquet")
    return sequences, samples


def _json_lines(table: pd.DataFrame) -> str:
    return "".join(json.dumps(row) + "\n" for row in table.to_dict("records"))


def write_layouts(folder: pathlib.Path) -> None:
    """All of them."""
    log = events()
    items = pd.DataFrame({"item": range(1, 31)})
    for name in ("ml-100k", "ml-10M100K", "ml-32m", "KuaiRec", "KuaiRand", "KuaiVideo_x2"):
        (folder / name).mkdir()
    _write_movielens(folder, log, items)
    _write_shops(folder, log, items)
    _write_videos(folder, log, items)
    _write_ads(folder, log, items)
    mind(folder)
    mind(folder, "dev", users=("U3", "U1"))
    longctr(folder / "KuaiVideo_x2")
    lines = log.assign(category=log.item % 5)[["user", "item", "category", "second", "label"]]
    lines.iloc[:150].to_csv(folder / "part_0.csv", header=False, index=False)
    lines.iloc[150:].to_csv(folder / "part_1.csv", header=False, index=False)
    chunks = [
        f"  {part}: [{{type: csv, features: [user, item, category, time, label], files: [{name}]}}]"
        for part, name in (("train", "part_0.csv"), ("test", "part_1.csv"))
    ]
    (folder / "feature_spec.yaml").write_text("\n".join(["source_spec:", *chunks]) + "\n")


def _write_movielens(folder, log, items):
    ratings = [f"{r.user}\t{r.item}\t{4 + r.label}\t{r.second}\n" for r in log.itertuples()]
    ml_100k(folder / "ml-100k")
    (folder / "ml-100k/u.data").write_text("".join(ratings))
    (folder / "ml-10M100K/ratings.dat").write_text("".join(ratings).replace("\t", "::"))
    movies = [f"{i}::Movie {i} (1995)::Genre{i % 3}|Other\n" for i in items.item]
    (folder / "ml-10M100K/movies.dat").write_text("".join(movies))
    header = "userId,movieId,rating,timestamp\n"
    (folder / "ml-32m/ratings.csv").write_text(header + "".join(ratings).replace("\t", ","))
    movies = [f'{i},"Movie, {i} (1995)",Genre{i % 3}|Other\n' for i in items.item]
    (folder / "ml-32m/movies.csv").write_text("movieId,title,genres\n" + "".join(movies))


def _write_shops(folder, log, items):
    reviews = pd.DataFrame(
        {
            "user_id": "A" + log.user.astype(str),
            "parent_asin": "B" + log.item.astype(str),
            "rating": 5.0,
            "timestamp": log.second * 1000 + log.item,
        }
    )
    (folder / "Books.jsonl.gz").write_bytes(gzip.compress(_json_lines(reviews).encode()))
    reviews.to_csv(folder / "Books.csv", index=False)
    meta = items.assign(parent_asin="B" + items.item.astype(str))[["parent_asin"]]
    meta["categories"] = [["Books", f"c{i % 4}"] if i % 7 else [] for i in items.item]
    (folder / "meta_Books.jsonl.gz").write_bytes(gzip.compress(_json_lines(meta).encode()))
    names = np.array(["view", "addtocart", "transaction"])
    retail = pd.DataFrame(
        {
            "timestamp": log.second * 1000,
            "visitorid": log.user,
            "event": names[log.item % 3],
            "itemid": log.item,
            "transactionid": np.where(log.item % 3 == 2, log.index.astype(str), ""),
        }
    )
    retail.to_csv(folder / "events_retailrocket.csv", index=False)


def _write_videos(folder, log, items):
    kuairec = pd.DataFrame(
        {
            "user_id": log.user,
            "video_id": log.item,
            "time": pd.to_datetime(log.second, unit="s"),
            "timestamp": log.second + 0.378,
            "watch_ratio": log.label * 2.5,
        }
    )
    kuairec.to_csv(folder / "KuaiRec/big_matrix.csv", index=False)
    features = [f"[{i % 4}, 9]" for i in items.item]
    table = pd.DataFrame({"video_id": items.item, "feat": features})
    table.to_csv(folder / "KuaiRec/item_categories.csv", index=False)
    kuairand = pd.DataFrame(
        {
            "user_id": log.user,
            "video_id": log.item,
            "time_ms": log.second * 1000 + 17,
            "is_click": log.label,
        }
    )
    for number, part in enumerate((kuairand.iloc[:99], kuairand.iloc[99:])):
        part.to_csv(folder / f"KuaiRand/log_standard_{number}.csv", index=False)
    table = pd.DataFrame({"video_id": items.item, "tag": [f"{i % 4},{i % 3}" for i in items.item]})
    table.to_csv(folder / "KuaiRand/video_features_basic.csv", index=False)


def _write_ads(folder, log, items):
    samples = pd.DataFrame(
        {
            "user": log.user,
            "time_stamp": log.second,
            "adgroup_id": log.item,
            "pid": "430548_1007",
            "nonclk": 1 - log.label,
            "clk": log.label,
        }
    )
    samples.to_csv(folder / "raw_sample.csv", index=False)
    past = events(count=12, seed=1)
    behaviors = pd.DataFrame(
        {
            "user": past.user,
            "time_stamp": past.second - 10**6,
            "btag": np.array(["pv", "cart", "fav", "buy"])[past.item % 4],
            "cate": past.item % 7,
            "brand": past.item % 5,
        }
    )
    behaviors.to_csv(folder / "behavior_log.csv", index=False)
    features = pd.DataFrame(
        {
            "adgroup_id": items.item,
            "cate_id": items.item % 7,
            "campaign_id": 1,
            "customer": 2,
            "brand": ["NULL" if i == 5 else str(i % 5) for i in items.item],
            "price": 9.9,
        }
    )
    features.to_csv(folder / "ad_feature.csv", index=False)
