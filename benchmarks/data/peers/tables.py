"""A table to clean, encoded, deduped, split shards by hand, in pandas and in polars: the steps that Shoal takes.

Parse; leave rows without a target out; the 1,000 most frequent values of a category become codes; a time becomes
elapsed days and sine and cosine of hour, weekday, day and month; missing numbers stay NaN; exact duplicates go; a hash
of the content says which split a row is in and where it stands; statistics of the training split (count, mean, standard
deviation, extremes, nine quantiles, a histogram of 20 bins, the mode, counts of codes); shards of at most 32 MiB as
safetensors with their sha256. Both use as many threads as their library does, which is bound to the workers' cores.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from benchmarks.data.contender import Task, main

FLIGHTS = {
    "numbers": "year month day dep_time sched_dep_time dep_delay arr_time sched_arr_time flight air_time distance "
    "hour minute",
    "categories": "carrier tailnum origin dest",
    "date": "time_hour",
    "target": "arr_delay",
}
MANY_FLIGHTS = {"numbers": "distance", "categories": "origin destination", "date": "date", "target": "delay"}
QUANTILES = (0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)
SHARD_BYTES = 32 * 1024**2
HELD_OUT = {"test": (0.0, 0.15), "validation": (0.15, 0.3), "train": (0.3, 1.0)}
DAY = 86_400_000_000


def columns_of(source: Path) -> dict[str, Any]:
    found = MANY_FLIGHTS if source.suffix == ".parquet" else FLIGHTS
    return {**found, "numbers": found["numbers"].split(), "categories": found["categories"].split()}


def wave_angles(micros: Any, day_of_month: Any, month: Any) -> dict[str, Any]:
    """Places in the day, week, month and year, in turns; works on columns of either library and on arrays."""
    days = micros // DAY
    return {
        "hour": (micros - days * DAY) / DAY,
        "weekday": ((days + 3) % 7) / 7,
        "day": (day_of_month - 1) / 31,
        "month": (month - 1) / 12,
    }


def by_polars(task: Task) -> None:
    import polars as pl

    names = columns_of(task.source)
    with task.clock():
        if task.source.suffix == ".parquet":
            table = pl.read_parquet(task.source)
        else:
            table = pl.read_csv(task.source, try_parse_dates=True, infer_schema_length=10_000)
        table = table.filter(pl.col(names["target"]).is_not_null())
        table = table.select(*names["numbers"], *names["categories"], names["date"], names["target"])
        table = table.unique(keep="first", maintain_order=True)
        codes = []
        for name in names["categories"]:
            counts = table[name].drop_nulls().value_counts().sort(["count", name], descending=[True, False])
            frequent = counts[name][:1000]
            numbers = pl.Series(range(1, len(frequent) + 1), dtype=pl.Int64)
            codes.append(pl.col(name).replace_strict(frequent, numbers, default=0, return_dtype=pl.Int64))
        micros = pl.col(names["date"]).dt.epoch("us")
        angles = wave_angles(micros, pl.col(names["date"]).dt.day(), pl.col(names["date"]).dt.month())
        waves = [
            wave.cast(pl.Float32).alias(f"{name}_{kind}")
            for name, turn in angles.items()
            for kind, wave in (("sin", (turn * 2 * math.pi).sin()), ("cos", (turn * 2 * math.pi).cos()))
        ]
        encoded = table.select(
            *(pl.col(name).cast(pl.Float32) for name in names["numbers"]),
            (micros / DAY).cast(pl.Float32).alias("elapsed"),
            *waves,
            *codes,
            pl.col(names["target"]).cast(pl.Float32).alias("target"),
        )
        features = [name for name in encoded.columns if name != "target"]
        position = encoded.select(features).hash_rows(seed=0).alias("position")
        encoded = encoded.with_columns(position).sort("position")
        numbers_of = [name for name in features if name not in names["categories"]]
        parts = {}
        statistics = {}
        for split, (low, high) in HELD_OUT.items():
            part = encoded.filter(pl.col("position").is_between(int(low * 2**64), int(high * 2**64) - 1))
            parts[split] = {
                "numbers": part.select(numbers_of).fill_null(math.nan).to_numpy(order="c"),
                "categories": part.select(names["categories"]).to_numpy(order="c"),
                "target": part["target"].to_numpy(),
            }
            if split == "train":
                statistics = polars_statistics(part, [*numbers_of, "target"], names["categories"])
        write(task.out, parts, statistics)
    task.measured["samples"] = sum(len(part["target"]) for part in parts.values())


def polars_statistics(train: Any, numbers: list[str], categories: list[str]) -> dict[str, Any]:
    import polars as pl

    column = pl.col(numbers)
    moments = {
        "count": column.count(),
        "mean": column.cast(pl.Float64).mean(),
        "std": column.cast(pl.Float64).std(ddof=0),
        "minimum": column.min(),
        "maximum": column.max(),
        "mode": column.drop_nulls().mode().first(),
        **{f"quantile {share}": column.quantile(share, "linear") for share in QUANTILES},
    }
    found: dict[str, Any] = {name: train.select(moment).row(0, named=True) for name, moment in moments.items()}
    found["histogram"] = {name: train[name].hist(bin_count=20)["count"].to_list() for name in numbers}
    found["codes"] = {name: train[name].value_counts(sort=True).rows() for name in categories}
    return found


def by_pandas(task: Task) -> None:
    import pandas as pd

    names = columns_of(task.source)
    with task.clock():
        if task.source.suffix == ".parquet":
            table = pd.read_parquet(task.source)
        else:
            table = pd.read_csv(task.source, parse_dates=[names["date"]])
        table = table.dropna(subset=[names["target"]])
        table = table[[*names["numbers"], *names["categories"], names["date"], names["target"]]].drop_duplicates()
        encoded = table[names["numbers"]].astype(np.float32)
        micros = table[names["date"]].dt.as_unit("us").astype(np.int64)
        encoded["elapsed"] = (micros / DAY).astype(np.float32)
        angles = wave_angles(micros, table[names["date"]].dt.day, table[names["date"]].dt.month)
        for name, turn in angles.items():
            encoded[f"{name}_sin"] = np.sin(turn * 2 * np.pi).astype(np.float32)
            encoded[f"{name}_cos"] = np.cos(turn * 2 * np.pi).astype(np.float32)
        numbers_of = list(encoded.columns)
        for name in names["categories"]:
            frequent = table[name].value_counts().index[:1000]
            encoded[name] = frequent.get_indexer(table[name]).astype(np.int64) + 1
        position = pd.util.hash_pandas_object(encoded, index=False).to_numpy()
        encoded["target"] = table[names["target"]].astype(np.float32)
        order = np.argsort(position, kind="stable")
        position, encoded = position[order], encoded.iloc[order]
        parts = {}
        statistics = {}
        for split, (low, high) in HELD_OUT.items():
            first, last = np.searchsorted(position, [int(low * 2**64), int(high * 2**64) - 1])
            part = encoded.iloc[first:last]
            parts[split] = {
                "numbers": part[numbers_of].to_numpy(np.float32),
                "categories": part[names["categories"]].to_numpy(np.int64),
                "target": part["target"].to_numpy(),
            }
            if split == "train":
                statistics = pandas_statistics(part, [*numbers_of, "target"], names["categories"])
        write(task.out, parts, statistics)
    task.measured["samples"] = sum(len(part["target"]) for part in parts.values())


def pandas_statistics(train: Any, numbers: list[str], categories: list[str]) -> dict[str, Any]:
    columns = train[numbers].astype(np.float64)
    found: dict[str, Any] = {
        "describe": columns.describe(percentiles=list(QUANTILES)).to_dict(),
        "mode": columns.mode().iloc[0].to_dict(),
    }
    found["histogram"] = {name: np.histogram(columns[name].dropna(), 20)[0].tolist() for name in numbers}
    found["codes"] = {name: train[name].value_counts().to_dict() for name in categories}
    return found


def write(out: Path, parts: dict[str, dict[str, np.ndarray]], statistics: dict[str, Any]) -> None:
    """Shards and an index."""
    index: dict[str, Any] = {"statistics": statistics}
    for split, tensors in parts.items():
        samples = len(tensors["target"])
        count = max(1, math.ceil(sum(array.nbytes for array in tensors.values()) / SHARD_BYTES))
        index[split] = []
        for number in range(count):
            rows = slice(samples * number // count, samples * (number + 1) // count)
            data = save({name: np.ascontiguousarray(array[rows]) for name, array in tensors.items()})
            name = f"{split}-{number:05d}.safetensors"
            (out / name).write_bytes(data)
            index[split].append({"name": name, "sha256": hashlib.sha256(data).hexdigest()})
    (out / "manifest.json").write_text(json.dumps(index))


if __name__ == "__main__":
    main({"polars": by_polars, "pandas": by_pandas})
