"""Who answers which request: shares, stickiness, canaries that grow, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal_core.errors import BadRequest, NotFound
from shoal_core.registry.routing import (
    WHOLE,
    Aliases,
    Limits,
    Shadow,
    Target,
    check_alias,
    place_of,
    read_aliases,
    require,
    start_canary,
    start_split,
)

MOMENT = "2026-11-21T08:00:00.000+00:00"
KEYS = [f"user-{number}" for number in range(4000)]
weights = st.dictionaries(st.integers(1, 99), st.floats(0.5, 100), min_size=2, max_size=5)


FIRST = Aliases(1)


def canary(steps=(5, 25, 100), version=2, aliases=FIRST):
    return start_canary(aliases, version, steps, 60, Limits(), MOMENT)


@given(weights)
def test_shares_add_up_to_the_whole_and_are_as_asked(asked):
    targets = start_split(Aliases(1), asked).targets
    assert sum(target.weight for target in targets) == WHOLE
    for target in targets:
        assert target.weight / WHOLE == pytest.approx(asked[target.version] / sum(asked.values()), abs=1.5 / WHOLE)


@given(weights, st.text(max_size=40))
def test_a_key_always_meets_the_same_version(asked, key):
    aliases = start_split(Aliases(1), asked)
    again = start_split(Aliases(1), dict(reversed(list(asked.items()))))
    assert aliases.choose("m", key) == again.choose("m", key) in asked


def test_each_version_gets_its_share_of_many_keys():
    aliases = start_split(Aliases(1), {1: 70, 2: 20, 3: 10})
    chosen = [aliases.choose("m", key) for key in KEYS]
    for version, share in ((1, 0.7), (2, 0.2), (3, 0.1)):
        assert chosen.count(version) / len(KEYS) == pytest.approx(share, abs=0.02)


@given(st.lists(st.integers(1, 99), min_size=1, max_size=6, unique=True).map(sorted), st.text(max_size=40))
def test_a_canary_that_grows_keeps_the_keys_it_has(steps, key):
    state = canary([*steps, 100])
    met = False
    for step in range(len(steps)):
        now = dataclasses.replace(state, canary=dataclasses.replace(state.canary, step=step))
        version = now.choose("m", key)
        assert not (met and version == 1)
        met = version == 2
    assert state.with_production(2).choose("m", key) == 2


def test_a_canary_gets_its_percent_and_another_one_other_keys():
    first = {key for key in KEYS if canary().choose("m", key) == 2}
    other = {key for key in KEYS if canary(version=3).choose("m", key) == 3}
    assert len(first) / len(KEYS) == pytest.approx(0.05, abs=0.015)
    assert len(first & other) < len(first) / 2


def test_places_are_even():
    counts = [0] * 10
    for key in KEYS:
        counts[place_of("salt", key) * 10 // WHOLE] += 1
    assert min(counts) > 300 and max(counts) < 500


@given(
    st.builds(
        Aliases,
        production=st.integers(1, 9),
        revision=st.integers(1, 99),
        served_before=st.none() | st.integers(1, 9),
        named=st.dictionaries(st.sampled_from(["candidate", "staging"]), st.integers(1, 9)),
        targets=st.just(()) | st.just((Target(1, 4000), Target(2, 6000))),
        shadow=st.none() | st.builds(Shadow, st.integers(1, 9), st.integers(1, WHOLE), st.just(MOMENT)),
    ),
    st.booleans(),
)
def test_what_the_catalog_keeps_comes_back(aliases, with_canary):
    if with_canary and not aliases.targets:
        aliases = canary(version=11, aliases=aliases)
    item = {"production": aliases.production, "revision": aliases.revision, "aliases": aliases.document()}
    if aliases.served_before:
        item["served_before"] = aliases.served_before
    assert read_aliases(item) == aliases
    assert json.loads(aliases.document()).keys() <= {"named", "canary", "targets", "shadow"}


def test_promoting_ends_what_shared_the_traffic_and_remembers_what_served():
    state = canary().with_named("candidate", 2).with_named("staging", 2)
    after = state.with_production(2)
    assert (after.production, after.served_before, after.canary) == (2, 1, None)
    assert dict(after.named) == {"staging": 2}
    assert after.with_production(2).served_before == 1
    assert dict(after.with_named("staging", None).named) == {}
    assert canary([100]).production == 2


@pytest.mark.parametrize(
    "percents",
    [
        [],
        [5, 25],
        [25, 5, 100],
        [0, 100],
        [5, 5, 100],
        [5, 101],
        list(range(1, 101)),
        [math.nan, 100],
        [math.inf],
        [1e308, 100],
    ],
)
def test_steps_that_dont_grow_to_a_hundred_are_refused(percents):
    with pytest.raises(BadRequest, match="steps"):
        canary(percents)


@pytest.mark.parametrize(
    "limits",
    [
        Limits(max_errors=1),
        Limits(max_slowdown=0.5),
        Limits(max_slowdown=math.inf),
        Limits(max_latency_ms=0),
        Limits(max_latency_ms=math.inf),
        Limits(min_requests=-1),
    ],
)
def test_limits_out_of_bounds_are_refused(limits):
    with pytest.raises(BadRequest, match="limit"):
        start_canary(Aliases(1), 2, [5, 100], 60, limits, MOMENT)


def test_two_experiments_at_once_are_refused():
    with pytest.raises(BadRequest, match="in production already"):
        canary(version=1)
    with pytest.raises(BadRequest, match="canary already"):
        canary(version=3, aliases=canary())
    with pytest.raises(BadRequest, match="canary already"):
        start_split(canary(), {1: 1, 2: 1})
    with pytest.raises(BadRequest, match="split is under way"):
        canary(aliases=start_split(Aliases(1), {1: 1, 3: 1}))
    with pytest.raises(BadRequest, match="A step of 0 s"):
        start_canary(Aliases(1), 2, [5, 100], 0, Limits(), MOMENT)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {1: 1},
        {1: 1, 2: 0},
        {1: 1, 2: -1},
        dict.fromkeys(range(1, 12), 1),
        {1: math.nan, 2: 1},
        {1: 1e308, 2: 1e308},
    ],
)
def test_weights_that_cant_be_are_refused(asked):
    with pytest.raises(BadRequest, match="weights"):
        start_split(Aliases(1), asked)


def test_a_weight_too_small_to_own_a_place_is_refused():
    with pytest.raises(BadRequest, match="hundredth"):
        start_split(Aliases(1), {1: 1e9, 2: 1})


def test_names_of_aliases():
    assert check_alias("staging") == "staging"
    for name in ("", "Staging", "1st", "a" * 33, "a/b", "canary", "shadow"):
        with pytest.raises(BadRequest):
            check_alias(name)
    with pytest.raises(NotFound, match="no alias 'staging'"):
        require(Aliases(1), "m", "staging")


def test_a_shadow_is_asked_for_its_share():
    state = dataclasses.replace(Aliases(1), shadow=Shadow(2, 3000))
    asked = [state.shadowed("m", key) for key in KEYS]
    assert asked.count(2) / len(KEYS) == pytest.approx(0.3, abs=0.03)
    assert state.all() == {"production": 1, "shadow": 2}


def test_a_model_has_at_most_fifty_aliases_of_its_own():
    full = dataclasses.replace(Aliases(1), named={"candidate": 2, **{f"a{number}": 1 for number in range(50)}})
    with pytest.raises(BadRequest, match="has 50 aliases, so 'one-more'"):
        full.with_named("one-more", 1)
    assert full.with_named("a7", 2).version_of("a7") == 2
    assert full.with_named("candidate", 3).version_of("candidate") == 3
    assert full.with_named("a7", None).with_named("one-more", 1).version_of("one-more") == 1
