"""Tokens and the audit record as a user meets them: the command line, plain HTTP, the real gateway."""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.cloud import LocalCloud


def shoal(cloud: LocalCloud, *arguments: str) -> dict[str, Any]:
    return dict(json.loads(cloud.shoal(*arguments, "--json").stdout))


def test_a_token_may_do_what_its_scopes_say(digits: LocalCloud) -> None:
    made = shoal(digits, "token", "create", "phone app", "--scope", "predict:digits", "--per-day", "4")
    assert digits.http("GET", "/v2/models/digits", token=made["token"]).status == 200
    refused = digits.http("GET", "/models", token=made["token"])
    assert (refused.status, refused.content_type) == (403, "application/problem+json")
    assert "lacks the scope 'read'" in refused.body["detail"]
    answers = [digits.http("GET", "/v2/models/digits/ready", token=made["token"]).status for _ in range(4)]
    assert answers == [200, 200, 200, 429]


def test_a_token_is_listed_without_its_secret_and_revoked(digits: LocalCloud) -> None:
    made = shoal(digits, "token", "create", "old laptop", "--scope", "read", "--days", "1")
    listed = digits.shoal("token", "list").stdout
    assert made["id"] in listed
    assert made["token"] not in listed
    assert shoal(digits, "token", "revoke", made["id"])["revoked_at"]
    # The gateway hasn't seen this token before, so no answer about it is kept for a minute.
    assert digits.http("GET", "/models", token=made["token"]).status == 403


def test_the_audit_record_holds_and_tells_who_did_what(digits: LocalCloud) -> None:
    entries = shoal(digits, "audit")["entries"]
    assert {"model.registered", "token.created", "token.revoked"} <= {entry["action"] for entry in entries}
    assert all(entry["at"] and entry["who"] for entry in entries)
    check = shoal(digits, "audit", "--verify")
    assert check["valid"] is True
    assert (check["entries"], check["head"]) == (len(entries), entries[-1]["hash"])
