"""Vocabularies against plain counting, however texts are handed over."""

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_core.data.cleaning_config import TextConfig
from shoal_core.data.texts import vocabulary
from shoal_core.data.texts.tokens import split_tokens, token_text
from shoal_core.data.texts.vocabulary import TokenCounter

some_texts = st.lists(
    st.one_of(st.none(), st.lists(st.sampled_from(["a", "b", "c", "dd", "eee", "漢字", "é", "!", "x1"])).map(" ".join))
)
configs = st.sampled_from([TextConfig(), TextConfig(unit="character"), TextConfig(vocabulary=3), TextConfig(buckets=9)])


WORDS = TextConfig()


def counted(texts, config=WORDS) -> TokenCounter:
    counter = TokenCounter(config)
    counter.add_many(texts)
    return counter


@given(some_texts, configs)
def test_the_vocabulary_is_that_of_plain_counting(texts, config):
    present = [split_tokens(token_text(text, config), config.unit) for text in texts if text is not None]
    counts = Counter(itertools.chain.from_iterable(present))
    expected = [token for token, _ in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))]
    column = counted(texts, config).column("t")
    assert column.vocabulary == (() if config.buckets else tuple(expected[: config.vocabulary]))
    assert column.name == "t" and column.unit == config.unit and column.buckets == (config.buckets or 0)


@settings(max_examples=60)
@given(some_texts, configs, st.integers(0, 20), st.integers(1, 60))
def test_any_chunking_merging_and_order_give_the_same_column(texts, config, cut, batch):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shoal_core.data.texts.packed._BATCH_CHARACTERS", batch)
        patch.setattr(vocabulary, "_FIRST_TABLE", 2)
        whole = counted(texts, config)
    one_by_one = TokenCounter(config)
    for text in texts:
        one_by_one.add(text)
    merged = counted(texts[cut:], config)
    merged.merge(counted(texts[:cut][::-1], config))
    assert whole.column("t") == one_by_one.column("t") == merged.column("t")
    assert whole.texts == merged.texts == sum(text is not None for text in texts)


@settings(max_examples=60)
@given(st.lists(st.lists(st.integers(0, 60).map(str), max_size=30).map(" ".join), max_size=30), st.integers(1, 80))
def test_beyond_the_bound_the_cut_into_batches_changes_nothing_and_the_error_is_bounded(texts, batch):
    true = Counter(itertools.chain.from_iterable(text.split() for text in texts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vocabulary, "MAX_DISTINCT", 20)
        patch.setattr(vocabulary, "KEPT_DISTINCT", 10)
        patch.setattr(vocabulary, "_FIRST_TABLE", 2)
        one_by_one = TokenCounter(TextConfig())
        for text in texts:
            one_by_one.add(text)
        patch.setattr("shoal_core.data.texts.packed._BATCH_CHARACTERS", batch)
        whole = counted(texts)
        merged = counted(texts[::2])
        merged.merge(counted(texts[1::2]))
    assert whole.column("t") == one_by_one.column("t") and whole.error == one_by_one.error
    for counter in (whole, merged):
        assert counter.distinct <= 20 + 30
        assert counter.error * 11 <= sum(true.values())
        found = set(counter.column("t").vocabulary)
        assert {token for token, count in true.items() if count > counter.error} <= found


def test_the_length_holds_most_texts_and_is_bounded():
    texts = ["w " * 5] * 96 + ["w " * 900] * 4
    assert counted(texts).column("t").length == 5
    assert counted(["w " * 900]).column("t").length == 512
    assert counted(["w " * 900], TextConfig(unit="character")).column("t").length == 1024
    assert counted(["a b c"], TextConfig(buckets=9, ngrams=3)).column("t").length == 6
    assert counted(["w " * 900], TextConfig(length=700)).column("t").length == 700
    assert counted([]).column("t").length == 1


def test_endless_tokens_are_never_learnt():
    column = counted(["x" * 101 + " a", "y" * 101]).column("t")
    assert column.vocabulary == ("a",)
    assert counted(["é" * 100]).column("t").vocabulary == ("é" * 100,)


def test_counters_of_different_settings_do_not_merge():
    with pytest.raises(ValueError, match="same settings"):
        TokenCounter(TextConfig()).merge(TokenCounter(TextConfig(lowercase=False)))
