"""Tokens through the handlers: made, used within scopes and limits, revoked; and all of it in the audit record."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.aws import TOKEN, invoke
from tests.support.oidc import local_issuer
from tests.support.pipeline import http_event
from tests.unit.functions.conftest import Trained


def call(function: str, method: str, path: str, body: Any = None, caller: dict[str, Any] | None = None, **changes: Any):
    event = http_event(method, path, None if body is None else json.dumps(body), **changes)
    if caller is not None:
        event["requestContext"]["authorizer"] = {"lambda": caller}
    answer = invoke(function, event)
    return answer["statusCode"], json.loads(answer["body"]), answer["headers"]


def make(**wishes: Any) -> dict[str, Any]:
    status, made, _ = call("api", "POST", "/tokens", {"name": "ci", "scopes": ["read"]} | wishes)
    assert status == 200
    return dict(made)


def authorize(token: str) -> dict[str, Any]:
    event = http_event("GET", "/models")
    event["headers"]["authorization"] = f"Bearer {token}"
    return dict(invoke("authorize", event))


def test_a_token_works_within_its_scopes_until_it_is_revoked(trained: Trained) -> None:
    made = make(scopes=["predict:digits"])
    answer = authorize(made["token"])
    assert answer["isAuthorized"] is True
    caller = answer["context"]
    assert caller == {"token": made["id"], "scopes": "predict:digits", "per_minute": 0, "per_day": 0, "per_month": 0}
    assert call("predict", "GET", "/v2/models/digits", caller=caller)[0] == 200

    status, problem, _ = call("api", "GET", "/models", caller=caller)
    assert (status, problem["title"]) == (403, "Forbidden")
    assert "lacks the scope 'read'" in problem["detail"]
    assert call("api", "POST", "/tokens", {"name": "x", "scopes": ["admin"]}, caller=caller)[0] == 403
    assert call("predict", "GET", "/v2/models/other", caller=caller)[0] == 403

    status, view, _ = call("api", "DELETE", f"/tokens/{made['id']}")
    assert status == 200
    assert view["revoked_at"]
    assert authorize(made["token"]) == {"isAuthorized": False}
    assert call("api", "DELETE", f"/tokens/{made['id']}")[1]["revoked_at"] == view["revoked_at"]


def test_no_secret_is_ever_shown_again(trained: Trained) -> None:
    made = make()
    secret = made["token"].split("_", 2)[2]
    listed = call("api", "GET", "/tokens")[1]
    assert made["id"] in [token["id"] for token in listed["tokens"]]
    assert secret not in json.dumps(listed) + json.dumps(call("api", "GET", "/audit")[1])


@pytest.mark.parametrize("token", ["", "shoal_aaaaaaaaaaaa_" + "x" * 43, "nonsense"])
def test_an_unknown_token_is_nobody(token: str, trained: Trained) -> None:
    assert authorize(token) == {"isAuthorized": False}


def test_a_request_without_a_caller_is_refused(trained: Trained) -> None:
    status, problem, _ = call("api", "GET", "/models", caller={})
    assert status == 403
    assert "The request lacks" in problem["detail"]


def test_a_token_makes_as_many_requests_as_it_may(trained: Trained) -> None:
    made = make(per_day=3)
    caller = authorize(made["token"])["context"]
    assert caller["per_day"] == 3
    statuses = [call("api", "GET", "/models", caller=caller) for _ in range(4)]
    assert [status for status, _, _ in statuses] == [200, 200, 200, 429]
    _, problem, headers = statuses[-1]
    assert "3 requests per day" in problem["detail"]
    assert 0 < int(headers["Retry-After"]) <= 86_400


def test_a_rotated_token_keeps_its_place_and_both_secrets_work_for_a_while(trained: Trained) -> None:
    made = make(scopes=["predict:digits"])
    status, again, _ = call("api", "POST", f"/tokens/{made['id']}/rotation", {"grace_hours": 1})
    assert status == 200
    assert (again["id"], again["scopes"]) == (made["id"], made["scopes"])
    assert again["token"] != made["token"]
    assert authorize(made["token"])["context"] == authorize(again["token"])["context"]
    status, last, _ = call("api", "POST", f"/tokens/{made['id']}/rotation", {"grace_hours": 0})
    assert [authorize(token)["isAuthorized"] for token in (made["token"], again["token"], last["token"])] == [
        False,
        False,
        True,
    ]
    (view,) = [token for token in call("api", "GET", "/tokens")[1]["tokens"] if token["id"] == made["id"]]
    assert view["rotated_at"] >= view["created_at"][:19]
    call("api", "DELETE", f"/tokens/{made['id']}")
    assert call("api", "POST", f"/tokens/{made['id']}/rotation", {})[0] == 409
    assert call("api", "POST", "/tokens/nothere/rotation", {})[0] == 404
    assert call("api", "POST", f"/tokens/{made['id']}/rotation", {"grace_hours": 1000})[0] == 400
    actions = [
        entry["action"] for entry in call("api", "GET", "/audit")[1]["entries"] if entry["subject"] == made["id"]
    ]
    assert actions == ["token.created", "token.rotated", "token.rotated", "token.revoked"]


def test_tokens_of_a_plan_have_its_limits_as_they_are_now(trained: Trained) -> None:
    assert call("api", "POST", "/tokens", {"name": "x", "scopes": ["read"], "plan": "bronze"})[0] == 400
    assert call("api", "PUT", "/plans/bronze", {"per_month": 2})[0] == 200
    made, other = make(plan="bronze"), make(plan="bronze", per_month=3)
    caller = authorize(made["token"])["context"]
    assert (caller["per_month"], authorize(other["token"])["context"]["per_month"]) == (2, 3)
    statuses = [call("api", "GET", "/models", caller=caller) for _ in range(3)]
    assert [status for status, _, _ in statuses] == [200, 200, 429]
    assert "2 requests per month" in statuses[-1][1]["detail"]
    assert 0 < int(statuses[-1][2]["Retry-After"]) <= 31 * 86_400
    assert call("api", "PUT", "/plans/bronze", {"per_month": 5, "per_minute": 60})[0] == 200
    caller = authorize(made["token"])["context"]
    assert (caller["per_minute"], caller["per_month"]) == (60, 5)
    assert call("api", "GET", "/models", caller=caller)[0] == 200
    (plan,) = [plan for plan in call("api", "GET", "/plans")[1]["plans"] if plan["name"] == "bronze"]
    assert plan["per_minute"] == 60
    assert call("api", "PUT", "/plans/bronze", {})[0] == 400
    assert call("api", "PUT", "/plans/Not_a_name", {"per_day": 1})[0] == 400
    assert [entry["action"] for entry in call("api", "GET", "/audit")[1]["entries"]].count("plan.set") == 2
    assert call("api", "GET", "/plans", caller={"token": "x", "scopes": "read"})[0] == 403


def test_a_jwt_is_believed_where_its_issuer_is_named(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    from shoal_core.aws import access, config

    def forget() -> None:
        access._issuer.cache_clear()
        config.environment.cache_clear()

    with local_issuer() as issuer:
        assert authorize(issuer.token()) == {"isAuthorized": False}
        call("api", "PUT", "/plans/people", {"per_minute": 30})
        monkeypatch.setenv("SHOAL_OIDC_ISSUER", issuer.url)
        monkeypatch.setenv("SHOAL_OIDC_AUDIENCE", "other, shoal-api")
        monkeypatch.setenv("SHOAL_OIDC_PLAN", "people")
        forget()
        try:
            caller = authorize(issuer.token())["context"]
            assert caller == {
                "token": "oidc:user-1",
                "scopes": "predict:digits read",
                "per_minute": 30,
                "per_day": 0,
                "per_month": 0,
            }
            assert call("predict", "GET", "/v2/models/digits", caller=caller)[0] == 200
            assert call("predict", "GET", "/v2/models/other", caller=caller)[0] == 403
            assert authorize(issuer.token(aud="somebody")) == {"isAuthorized": False}
            assert authorize(TOKEN)["isAuthorized"] is True
        finally:
            monkeypatch.undo()
            forget()


def test_a_wrong_wish_is_a_problem(trained: Trained) -> None:
    status, problem, _ = call("api", "POST", "/tokens", {"name": "x", "scopes": ["everything"]})
    assert (status, problem["status"]) == (400, 400)
    assert "no scope 'everything'" in problem["detail"]
    assert call("api", "POST", "/tokens", {"name": "x"})[0] == 400
    assert call("api", "DELETE", "/tokens/nothere")[0] == 404


def test_every_change_is_in_the_audit_record(trained: Trained) -> None:
    made = make(name="for the audit")
    call("api", "DELETE", f"/tokens/{made['id']}")
    entries = call("api", "GET", "/audit")[1]["entries"]
    mine = [entry for entry in entries if entry["subject"] == made["id"]]
    assert [entry["action"] for entry in mine] == ["token.created", "token.revoked"]
    assert mine[0]["who"] == "root"
    assert mine[0]["source"] == "127.0.0.1"
    assert mine[0]["details"]["name"] == "for the audit"
    verification = call("api", "GET", "/audit/verification")[1]
    assert verification["valid"] is True
    assert verification["entries"] == len(entries)
    page = call("api", "GET", "/audit", queryStringParameters={"limit": "1"})[1]
    assert [entry["number"] for entry in page["entries"]] == [1]
    assert page["next_after"] == 1
    rest = call("api", "GET", "/audit", queryStringParameters={"after": "1"})[1]
    assert [entry["number"] for entry in rest["entries"]] == list(range(2, len(entries) + 1))
