"""Near-duplicate texts: estimates against true similarities, and groups that depend on nothing else."""

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_core.data.near import near_groups
from shoal_core.data.texts.near import near_hashes
from tests.unit.data.builders import Case, jsonl_of

SIGNATURE = [8542004032888597960, 15148230487005400306]
VOCABULARY = [f"word{number}" for number in range(2000)]


def random_text(generator: random.Random, words: int) -> str:
    return " ".join(generator.choices(VOCABULARY, k=words))


def shingles(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[start : start + 3]) for start in range(max(1, len(words) - 2))}


def similarity(one: str, other: str) -> float:
    return len(shingles(one) & shingles(other)) / len(shingles(one) | shingles(other))


def edited(generator: random.Random, text: str, changes: int) -> str:
    words = text.split()
    for place in generator.sample(range(len(words)), changes):
        words[place] = generator.choice(VOCABULARY)
    return " ".join(words)


def as_sets(groups: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(groups == group).tolist()) for group in np.unique(groups)}


def test_equal_bytes_estimate_the_similarity():
    generator = random.Random(1)
    errors = []
    for changes in [1, 2, 5, 10, 20] * 12:
        text = random_text(generator, 200)
        other = edited(generator, text, changes)
        signatures = near_hashes([text, other]).view(np.uint8).reshape(2, 64)
        errors.append((signatures[0] == signatures[1]).mean() - similarity(text, other))
    assert abs(np.mean(errors)) < 0.02 and np.std(errors) < 0.08


def test_groups_hold_what_is_nearly_equal_and_nothing_else():
    generator = random.Random(2)
    texts = [random_text(generator, 150) for _ in range(300)]
    copies = [edited(generator, text, 2) for text in texts[:100]]
    far = [edited(generator, text, 60) for text in texts[100:200]]
    groups = near_groups(near_hashes([*texts, *copies, *far]))
    assert (groups[300:400] == groups[:100]).mean() > 0.95
    assert (groups[400:] == np.arange(400, 500)).all()
    assert len(np.unique(groups[:300])) == 300


def test_short_texts_are_near_only_when_equal():
    texts = ["good film", "bad film", "good film", "a", "b", "", None, ""]
    assert near_groups(near_hashes(texts)).tolist() == [0, 1, 0, 3, 4, 5, 6, 7]
    assert not near_hashes(["", None]).any()


def test_words_of_any_length_count():
    long = "x" * 200
    texts = [f"{long} one two", f"{long}y one two", f"{long} one two"]
    assert near_groups(near_hashes(texts)).tolist() == [0, 1, 0]


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 400))
def test_neither_order_nor_cut_changes_anything(seed, batch):
    generator = random.Random(seed)
    base = [random_text(generator, generator.randint(1, 60)) for _ in range(12)]
    texts = base + [edited(generator, text, min(1, len(text.split()) - 1)) for text in base] + ["", base[0]]
    whole = near_hashes(texts)
    parts = np.concatenate([near_hashes(texts[:7]), near_hashes(texts[7:])])
    assert (whole == parts).all()
    order = generator.sample(range(len(texts)), len(texts))
    shuffled = near_groups(whole[order])
    expected = as_sets(near_groups(whole))
    assert {frozenset(order[index] for index in group) for group in as_sets(shuffled)} == expected


def test_signatures_are_the_same_everywhere():
    # Written down: a change of any constant would make old pieces and new ones incomparable.
    signature = near_hashes(["to be or not to be , that is the question"])
    assert signature[0, :2].tolist() == SIGNATURE


def test_many_texts_with_one_boilerplate_are_one_group():
    generator = random.Random(3)
    boilerplate = random_text(generator, 400)
    texts = [f"{boilerplate} {number}" for number in range(3000)]
    assert len(np.unique(near_groups(near_hashes(texts)))) == 1


REVIEWS = [
    {
        "title": f"film {number}",
        "text": random_text(random.Random(number), 60),
        "stars": number % 5,
        "label": "ab"[number % 2],
    }
    for number in range(60)
]


def near_case(rows: list[dict[str, object]], **config: object) -> Case:
    return Case({"t.jsonl": jsonl_of(rows)}, target="label", **config)


def test_a_table_of_texts_tells_its_near_duplicates_and_drops_them_when_asked():
    copies = [{**row, "text": str(row["text"]) + " indeed", "stars": 9} for row in REVIEWS[:7]]
    reported = near_case([*REVIEWS, *copies])
    assert sum(reported.run().samples.values()) == 67
    assert reported.report.near_duplicates is not None and reported.report.near_duplicates.samples == 7
    assert sum(near_case([*REVIEWS, *copies], near_duplicates="drop").run().samples.values()) == 60
    off = near_case([*REVIEWS, *copies], near_duplicates="off")
    assert sum(off.run().samples.values()) == 67 and off.report.near_duplicates is None


def test_several_columns_of_texts_count_together():
    types = {"columns": {name: {"type": "text"} for name in ("title", "text")}}
    copies = [{**row, "title": random_text(random.Random(99), 60)} for row in REVIEWS[:7]]
    case = near_case([*REVIEWS, *copies], **types)
    assert len(case.plan().spec.table.texts) == 2
    case.run()
    assert case.report.near_duplicates.samples == 0
