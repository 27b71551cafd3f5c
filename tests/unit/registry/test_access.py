"""Tokens: who may do what, until when; a secret is never kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shoal_core.errors import BadRequest, NotPermitted
from shoal_core.registry.access import (
    HEALTH,
    Caller,
    TokenView,
    TokenWish,
    allows,
    grace_end,
    hash_secret,
    is_valid,
    make_plan,
    make_token,
    new_secret,
    parse_token,
    require,
    required_scope,
)

MOMENT = datetime(2026, 11, 21, 8, tzinfo=UTC)


def make(name: str, scopes: list[str], **wishes: Any) -> tuple[TokenView, str, str]:
    return make_token(TokenWish(name, scopes, **wishes), "root", MOMENT)


def test_a_rotated_token_is_known_by_both_secrets_for_the_grace_time() -> None:
    record, text, kept = make("ci", ["read"])
    again, new_kept = new_secret(record.id)
    (_, old), (identity, new) = parse_token(text) or ("", ""), parse_token(again) or ("", "")
    assert identity == record.id
    assert old != new
    rotated = record.model_copy(update={"previous_until": grace_end(24, MOMENT)})
    for hours, expected in ((0, True), (23, True), (24, False)):
        moment = MOMENT + timedelta(hours=hours)
        assert is_valid(rotated, new_kept, kept, new, moment)
        assert is_valid(rotated, new_kept, kept, old, moment) is expected
    at_once = record.model_copy(update={"previous_until": grace_end(0, MOMENT)})
    assert not is_valid(at_once, new_kept, kept, old, MOMENT)
    assert not is_valid(record, new_kept, "", old, MOMENT)
    for hours in (-1, 169):
        with pytest.raises(BadRequest, match="grace_hours"):
            grace_end(hours, MOMENT)


def test_a_plan_gives_limits_where_a_token_has_none() -> None:
    plan = make_plan("gold", 60, None, 1000, MOMENT)
    caller = Caller("x", ("read",), per_minute=5, per_day=10).with_plan(plan)
    assert (caller.per_minute, caller.per_day, caller.per_month) == (5, 10, 1000)
    assert Caller("x", ()).with_plan(plan).is_limited
    assert not Caller("x", ()).with_plan(None).is_limited


@pytest.mark.parametrize(
    ("name", "limits", "reason"),
    [
        ("Gold", (1, None, None), "can't be a plan"),
        ("", (1, None, None), "can't be a plan"),
        ("gold", (None, None, None), "no limit"),
        ("gold", (0, None, None), "per_minute is 0"),
        ("gold", (None, None, 10**11), "per_month is"),
    ],
)
def test_a_wrong_plan_is_named(name: str, limits: tuple[int | None, ...], reason: str) -> None:
    with pytest.raises(BadRequest, match=reason):
        make_plan(name, *limits, MOMENT)  # type: ignore[arg-type]


def test_a_token_proves_itself_and_its_secret_is_nowhere() -> None:
    record, text, kept = make("ci", ["read", "predict:digits", "read"], days=1)
    parsed = parse_token(text)
    assert parsed is not None
    assert parsed[0] == record.id
    assert record.scopes == ["predict:digits", "read"]
    assert is_valid(record, kept, "", parsed[1], MOMENT)
    assert parsed[1] not in record.model_dump_json() + kept
    assert not is_valid(record, kept, "", parsed[1][:-1] + "_", MOMENT) or parsed[1].endswith("_")


def test_two_tokens_differ() -> None:
    first, second = (make("a", ["read"])[1] for _ in range(2))
    assert first != second


def test_a_token_ends() -> None:
    record, text, kept = make("ci", ["read"], days=1)
    secret = parse_token(text)[1]  # type: ignore[index]
    assert is_valid(record, kept, "", secret, MOMENT + timedelta(hours=23, minutes=59))
    assert not is_valid(record, kept, "", secret, MOMENT + timedelta(days=1))
    revoked = record.model_copy(update={"revoked_at": "2026-11-21T08:00:01.000Z"})
    assert not is_valid(revoked, kept, "", secret, MOMENT)


@pytest.mark.parametrize("text", ["", "shoal_", "shoal_abc_def", "x" * 10_000, "shoal_abcdefghijkl_" + "é" * 43])
def test_what_isnt_a_token(text: str) -> None:
    assert parse_token(text) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": " "}, "needs a name"),
        ({"name": "n" * 101}, "needs a name"),
        ({"scopes": []}, "1 to 50 scopes"),
        ({"scopes": ["write"]}, "no scope 'write'"),
        ({"scopes": ["predict:"]}, "no scope 'predict:'"),
        ({"scopes": ["predict:../x"]}, "no scope"),
        ({"days": 0}, "days is 0"),
        ({"per_minute": -1}, "per_minute is -1"),
        ({"per_day": 10**10}, "per_day is"),
        ({"per_month": 10**11}, "per_month is"),
    ],
)
def test_a_wrong_wish_is_named(changes: dict[str, object], reason: str) -> None:
    arguments = {"name": "ci", "scopes": ["read"]} | changes
    with pytest.raises(BadRequest) as caught:
        make(**arguments)
    assert reason in caught.value.reason
    assert caught.value.fix


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/healthz", None),
        ("GET", "/openapi.json", None),
        ("GET", "/models", "read"),
        ("GET", "/models/digits", "read"),
        ("GET", "/runs/x", "read"),
        ("POST", "/models/digits/predict", "predict:digits"),
        ("POST", "/v2/models/digits/infer", "predict:digits"),
        ("GET", "/v2/models/digits/versions/1/ready", "predict:digits"),
        ("GET", "/v2", HEALTH),
        ("GET", "/v2/health/live", HEALTH),
        ("GET", "/v2/health/ready", HEALTH),
        ("GET", "/v2/models", "read"),
        ("POST", "/datasets/digits/replay", "data:write"),
        ("POST", "/datasets/digits/runs", "data:write"),
        ("PUT", "/runs/x/workers", "data:write"),
        ("POST", "/models/digits/aliases", "admin"),
        ("DELETE", "/models/digits", "admin"),
        ("GET", "/tokens", "admin"),
        ("POST", "/tokens", "admin"),
        ("DELETE", "/tokens/x", "admin"),
        ("GET", "/audit", "admin"),
        ("GET", "/audit/verification", "admin"),
        ("PUT", "/", "admin"),
    ],
)
def test_what_a_request_needs(method: str, path: str, scope: str | None) -> None:
    assert required_scope(method, path) == scope


@pytest.mark.parametrize(
    ("scopes", "required", "allowed"),
    [
        (["admin"], "predict:digits", True),
        (["admin"], "admin", True),
        (["predict:*"], "predict:digits", True),
        (["predict:digits"], "predict:digits", True),
        (["predict:digits"], "predict:digits2", False),
        (["predict:digits"], "read", False),
        (["read"], "admin", False),
        (["read"], "data:write", False),
        (["data:write"], "read", False),
        (["predict:digits"], HEALTH, True),
        (["predict:*"], HEALTH, True),
        (["read"], HEALTH, True),
        (["admin"], HEALTH, True),
        (["data:write"], HEALTH, False),
        ([], None, True),
        ([], "read", False),
    ],
)
def test_what_a_scope_covers(scopes: list[str], required: str | None, allowed: bool) -> None:
    assert allows(scopes, required) is allowed


def test_who_lacks_a_scope_is_told_which() -> None:
    with pytest.raises(NotPermitted) as caught:
        require(Caller("abc", ("read",)), "POST", "/models/digits/predict")
    assert "'abc' lacks the scope 'predict:digits'" in caught.value.reason
    with pytest.raises(NotPermitted):
        require(None, "GET", "/models")
    require(None, "GET", "/healthz")


def test_the_hash_is_sha256() -> None:
    assert hash_secret("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
