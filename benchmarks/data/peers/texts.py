"""Reviews to token shards with Hugging Face's `datasets`: `map` normalises and splits, a vocabulary, `map` encodes."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from typing import Any

import numpy as np

from benchmarks.data.contender import Task, main

WORDS = re.compile(r"\w+|[^\w\s]")
VOCABULARY = 20_000
LENGTH = 512
BATCH = 1000


def tokens_of(text: str) -> list[str]:
    """Words and signs of a text, NFKC, in lower case."""
    return WORDS.findall(unicodedata.normalize("NFKC", text).lower())


def tokenise(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {"tokens": [tokens_of(text) for text in batch["text"]]}


def encode(batch: dict[str, list[Any]], ids: dict[str, int]) -> dict[str, Any]:
    """Ids int32 [N, LENGTH]: 0 is padding, 1 unknown."""
    encoded = np.zeros((len(batch["tokens"]), LENGTH), np.int32)
    for row, tokens in enumerate(batch["tokens"]):
        found = [ids.get(token, 1) for token in tokens[:LENGTH]]
        encoded[row, : len(found)] = found
    return {"ids": encoded}


def by_datasets(task: Task) -> None:
    import datasets

    datasets.disable_progress_bars()
    options: dict[str, Any] = {"batched": True, "batch_size": BATCH}
    if task.workers > 1:
        options["num_proc"] = task.workers
    with task.clock():
        loaded = datasets.load_dataset("csv", data_files=str(task.source), split="train", cache_dir=str(task.out / "c"))
        split = loaded.map(tokenise, remove_columns=["text", "source"], **options)
        counts: Counter[str] = Counter()
        for batch in split.select_columns("tokens").iter(BATCH):
            for tokens in batch["tokens"]:
                counts.update(tokens)
        ids = {token: number for number, (token, _) in enumerate(counts.most_common(VOCABULARY), 2)}
        encoded = split.map(encode, remove_columns=["tokens"], fn_kwargs={"ids": ids}, **options)
        encoded.save_to_disk(str(task.out / "shards"), **({"num_proc": task.workers} if task.workers > 1 else {}))
    task.measured["samples"] = len(encoded)


if __name__ == "__main__":
    main({"datasets": by_datasets})
