"""JWTs of a real issuer: what is believed, and every forgery that is known."""

from __future__ import annotations

import base64
import dataclasses
import json
import time
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from shoal_core.aws.oidc import FRESH_SECONDS, KEPT_SECONDS, REFRESH_SECONDS, Issuer, fetch_json
from shoal_core.errors import Unavailable
from shoal_core.registry.jwt_claims import JwtRefused, OidcSettings
from tests.support.oidc import LocalIssuer, ec_key, local_issuer, rsa_key


class Moment(int):
    """Seconds from when the test runs, not from when it was collected."""


def now_in(claims: dict[str, Any]) -> dict[str, Any]:
    moment = int(time.time())
    return {name: moment + value if isinstance(value, Moment) else value for name, value in claims.items()}


@pytest.fixture(scope="module")
def local() -> Iterator[LocalIssuer]:
    with local_issuer() as running:
        yield running


def believing(local: LocalIssuer, **changes: Any) -> Issuer:
    return Issuer(dataclasses.replace(OidcSettings(local.url, ("shoal-api",)), **changes))


@pytest.fixture
def issuer(local: LocalIssuer) -> Issuer:
    return believing(local)


@pytest.mark.parametrize("key", ["first", "curve"])
def test_a_good_jwt_is_its_subject_with_its_scopes(key: str, local: LocalIssuer, issuer: Issuer) -> None:
    caller = issuer.caller(local.token(key))
    assert (caller.id, caller.scopes) == ("oidc:user-1", ("predict:digits", "read"))


def test_keys_are_asked_for_once(local: LocalIssuer, issuer: Issuer) -> None:
    before = dict(local.asked)
    for _ in range(20):
        issuer.caller(local.token())
    assert {path: count - before.get(path, 0) for path, count in local.asked.items()} == dict.fromkeys(local.asked, 1)


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({"scope": None}, ()),
        ({"scope": "admin read predict:*"}, ()),  # without the prefix they are somebody else's
        ({"scope": ["shoal/admin", 1, None]}, ("admin",)),
        ({"scope": "shoal/nonsense shoal/ shoal/predict:../x"}, ()),
        ({"scope": None, "cognito:groups": ["shoal/data:write", "others"]}, ("data:write",)),
        ({"scope": "shoal/read", "scp": "shoal/predict:*", "roles": ["shoal/admin"]}, ("read", "predict:*", "admin")),
    ],
)
def test_scopes_come_from_claims_with_the_prefix(
    claims: dict[str, Any], scopes: tuple[str, ...], local: LocalIssuer
) -> None:
    assert believing(local, claim="roles").caller(local.token(**claims)).scopes == scopes


def test_the_prefix_may_be_another(local: LocalIssuer) -> None:
    assert believing(local, prefix="").caller(local.token(scope="read shoal/admin")).scopes == ("read",)


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": ["other", "shoal-api"], "azp": "app"},
        {"aud": None, "client_id": "shoal-api"},  # Cognito's access token
        {"exp": Moment(-30)},  # within the clocks' difference
        {"nbf": Moment(30)},
        {"aud": None, "client_id": "shoal-api", "sub": None},
    ],
)
def test_forms_that_issuers_have(claims: dict[str, Any], local: LocalIssuer, issuer: Issuer) -> None:
    assert issuer.caller(local.token(**now_in(claims))).id.startswith("oidc:")


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": Moment(-61)}, "expired"),
        ({"exp": None}, "exp"),
        ({"exp": "soon"}, "exp"),
        ({"exp": True}, "exp isn't a number"),
        ({"nbf": Moment(120)}, "isn't valid yet"),
        ({"iat": Moment(120)}, "isn't valid yet"),
        ({"iss": "https://somebody.else"}, "[Ii]ssuer"),
        ({"iss": None}, "iss"),
        ({"aud": "another-api"}, "it is for"),
        ({"aud": "other shoal-api", "azp": "app"}, "it is for"),
        ({"aud": None}, "it is for"),
        ({"aud": ["shoal-api", "other"]}, "no azp"),
        ({"azp": 7}, "azp isn't a text"),
        ({"sub": None}, "no sub"),
        ({"sub": "a\nb"}, "no sub"),
    ],
)
def test_claims_that_dont_hold(claims: dict[str, Any], reason: str, local: LocalIssuer, issuer: Issuer) -> None:
    with pytest.raises(JwtRefused, match=reason):
        issuer.caller(local.token(**now_in(claims)))


def test_only_named_clients_where_some_are_named(local: LocalIssuer) -> None:
    issuer = believing(local, clients=("app",))
    assert issuer.caller(local.token(azp="app")).id == "oidc:user-1"
    for claims in ({"azp": "other"}, {}):
        with pytest.raises(JwtRefused, match="issued to"):
            issuer.caller(local.token(**claims))


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_forged_signatures(local: LocalIssuer, issuer: Issuer) -> None:
    claims, head = local.claims(), {"kid": "first"}
    public = local.keys["first"][1].public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    # PyJWT refuses to make a MAC of a public key itself, so the forgery is written by hand.
    import hashlib
    import hmac

    signed = f"{part({'alg': 'HS256', 'kid': 'first', 'typ': 'JWT'})}.{part(claims)}"
    mac = base64.urlsafe_b64encode(hmac.new(pem, signed.encode(), hashlib.sha256).digest()).rstrip(b"=").decode()
    good = local.token()
    first, second, third = good.split(".")
    forgeries = {
        "another key of the same id": jwt.encode(claims, rsa_key(), algorithm="RS256", headers=head),
        "a key of another kind under the id": jwt.encode(claims, ec_key(), algorithm="ES256", headers=head),
        "a MAC with the public key": f"{signed}.{mac}",
        "no algorithm": f"{part({'alg': 'none', 'kid': 'first'})}.{part(claims)}.",
        "no signature": f"{first}.{second}.",
        "other claims": f"{first}.{part({**claims, 'sub': 'root'})}.{third}",
        "RS512": jwt.encode(claims, local.keys["first"][1], algorithm="RS512", headers=head),
        "no key id": jwt.encode(claims, local.keys["first"][1], algorithm="RS256"),
        "an unknown key id": jwt.encode(claims, local.keys["first"][1], algorithm="RS256", headers={"kid": "x"}),
        "a critical header": jwt.encode(
            claims, local.keys["first"][1], algorithm="RS256", headers=head | {"crit": ["b64"], "b64": True}
        ),
        "a key of its own": jwt.encode(
            claims, rsa_key(), algorithm="RS256", headers=head | {"jwk": local.public("first"), "jku": "http://x"}
        ),
        "nothing": "..",
        "not JSON": "a.b.c",
        "too long": good + "a" * 8192,
    }
    for name, token in forgeries.items():
        with pytest.raises(JwtRefused):
            issuer.caller(token)
            pytest.fail(f"{name} passed")


def test_keys_that_arent_for_this(local: LocalIssuer) -> None:
    local.keys["weak"] = ("RS256", rsa_key(1024))
    encrypting = {**local.public("first"), "kid": "encrypting", "use": "enc"}
    local.extra = [encrypting, {"kty": "oct", "kid": "mac", "k": "c2VjcmV0"}, "nonsense", {"kid": 1}]  # type: ignore[list-item]
    try:
        issuer = believing(local)
        with pytest.raises(JwtRefused):
            issuer.caller(local.token("weak"))
        signing: Any = local.keys["first"][1]
        for identity in ("encrypting", "mac"):
            token = jwt.encode(local.claims(), signing, algorithm="RS256", headers={"kid": identity})
            with pytest.raises(JwtRefused):
                issuer.caller(token)
        assert issuer.caller(local.token()).id == "oidc:user-1"
    finally:
        del local.keys["weak"]
        local.extra = []


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_a_new_key_is_found_and_the_issuer_isnt_asked_for_every_wrong_one(local: LocalIssuer) -> None:
    clock = Clock()
    issuer = dataclasses.replace(believing(local), clock=clock)
    issuer.caller(local.token())
    local.keys["second"] = ("RS256", rsa_key())
    try:
        clock.seconds = REFRESH_SECONDS
        assert issuer.caller(local.token("second")).id == "oidc:user-1"
        asked = dict(local.asked)
        for number in range(50):
            with pytest.raises(JwtRefused, match="no key"):
                token = jwt.encode(local.claims(), local.keys["second"][1], "RS256", headers={"kid": f"x{number}"})
                issuer.caller(token)
        assert local.asked == asked
    finally:
        token = local.token("second")
        del local.keys["second"]
    clock.seconds += FRESH_SECONDS
    with pytest.raises(JwtRefused, match="no key"):
        issuer.caller(token)


def test_an_issuer_that_is_down_lets_nobody_in(local: LocalIssuer) -> None:
    clock = Clock()
    issuer = dataclasses.replace(believing(local), clock=clock)
    local.down = True
    try:
        with pytest.raises(Unavailable, match="can't be used: it answered with status 503"):
            issuer.caller(local.token())
        with pytest.raises(Unavailable, match="can't be had"):
            issuer.caller(local.token())
        local.down = False
        clock.seconds = REFRESH_SECONDS
        issuer.caller(local.token())
        local.down = True
        clock.seconds += FRESH_SECONDS + REFRESH_SECONDS
        assert issuer.caller(local.token()).id == "oidc:user-1"  # by keys that were kept
        clock.seconds += KEPT_SECONDS
        with pytest.raises(Unavailable):
            issuer.caller(local.token())
    finally:
        local.down = False


def test_an_issuer_is_who_it_says(local: LocalIssuer) -> None:
    with pytest.raises(Unavailable, match="says that it is"):
        believing(local, issuer=local.url + "/").caller(local.token())
    for address in ("http://issuer.example/pool", "ftp://127.0.0.1/pool", "https:/x", "file:///etc/passwd"):
        with pytest.raises(Unavailable):
            believing(local, issuer=address).caller(local.token())
    with pytest.raises(Unavailable, match="can't be used"):
        fetch_json("http://127.0.0.1:9/nobody")
