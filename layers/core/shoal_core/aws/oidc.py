"""JWTs of an OIDC issuer, verified: signature by the issuer's published keys, issuer, times; then what they claim.

RS256 and ES256 only, whatever the token's header says, and each only with a key of its own kind: so neither `none` nor
a MAC made with a public key can pass (RFC 8725 3.1, 3.2). Keys come from the issuer's discovery document
(OpenID Connect Discovery 1.0, RFC 7517) and are kept; a key id that isn't known asks the issuer again, at most once in
`REFRESH_SECONDS`. An issuer that can't be reached leaves the kept keys valid for `KEPT_SECONDS`; after that nobody is
let in.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import jwt
import urllib3
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from jwt.exceptions import PyJWTError

from shoal_core.errors import Unavailable
from shoal_core.registry.access import Caller
from shoal_core.registry.jwt_claims import JwtRefused, OidcSettings, caller_of_claims

MAX_TOKEN_BYTES = 8192
MAX_DOCUMENT_BYTES = 262_144
MAX_KEYS = 100
MIN_RSA_BITS = 2048
LEEWAY_SECONDS = 60
FRESH_SECONDS = 600.0
KEPT_SECONDS = 3600.0
REFRESH_SECONDS = 30.0
_DISCOVERY = "/.well-known/openid-configuration"
# Which kind of key (RFC 7518 6.1) each algorithm that is believed is used with.
_KINDS = {"RS256": "RSA", "ES256": "EC"}
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_HTTP = urllib3.PoolManager(
    timeout=urllib3.Timeout(connect=2, read=3), retries=urllib3.Retry(connect=1, read=0, redirect=0, other=0), maxsize=2
)

Key = Mapping[str, Any]


def fetch_json(url: str) -> dict[str, Any]:
    """A JSON object from a URL, within bounds; no redirect is followed.

    Raises:
        Unavailable: It isn't there, isn't JSON, or is larger than `MAX_DOCUMENT_BYTES`.
    """
    try:
        answer = _HTTP.request(
            "GET", url, preload_content=False, redirect=False, headers={"Accept": "application/json"}
        )
        try:
            data = answer.read(MAX_DOCUMENT_BYTES + 1)
        finally:
            answer.release_conn()
        if answer.status != 200 or len(data) > MAX_DOCUMENT_BYTES:
            raise ValueError(f"it answered with status {answer.status} and {len(data):,} bytes or more")
        document = json.loads(data)
        if not isinstance(document, dict):
            raise ValueError("it isn't an object")
    except (urllib3.exceptions.HTTPError, ValueError, RecursionError) as error:
        raise Unavailable(
            f"The OIDC issuer's {url} can't be used: {error}.",
            "Check the parameter OidcIssuer and the issuer's health.",
        ) from error
    return document


@dataclass
class Issuer:
    """One issuer's keys, and the JWTs that they prove.

    Attributes:
        settings: Which JWTs are believed.
        fetch: Reads a JSON object from a URL; raises `Unavailable`.
        clock: Seconds, for how old keys are.
        now: Seconds since 1970, for the tokens' times.
    """

    settings: OidcSettings
    fetch: Callable[[str], Mapping[str, Any]] = fetch_json
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    _keys: dict[str, Key] = field(default_factory=dict)
    _read_at: float | None = None
    _asked_at: float | None = None

    def caller(self, token: str) -> Caller:
        """The caller that a JWT proves.

        Raises:
            JwtRefused: It proves nobody; why is for the log.
            Unavailable: The issuer's keys can't be had.
        """
        if len(token) > MAX_TOKEN_BYTES:
            raise JwtRefused("it is too long")
        try:
            header = jwt.get_unverified_header(token)
        except (PyJWTError, RecursionError) as error:
            raise JwtRefused(f"its header can't be read: {error}") from error
        algorithm, identity = header.get("alg"), header.get("kid")
        if algorithm not in _KINDS or not isinstance(identity, str) or "crit" in header:
            raise JwtRefused(f"alg {algorithm!r}, kid {identity!r}")
        return caller_of_claims(self._claims(token, algorithm, self._key(identity)), self.settings)

    def _claims(self, token: str, algorithm: str, key: Key) -> dict[str, Any]:
        fits = key.get("kty") == _KINDS[algorithm] and key.get("alg", algorithm) == algorithm
        if not fits or key.get("crv", "P-256") != "P-256":
            raise JwtRefused(f"alg {algorithm!r} with a key of another kind")
        try:
            public: Any = (RSAAlgorithm if algorithm == "RS256" else ECAlgorithm).from_jwk(dict(key))
            if algorithm == "RS256" and public.key_size < MIN_RSA_BITS:
                raise JwtRefused(f"its key has {public.key_size} bits")
            # Times are checked below, by our own clock; the audience by `caller_of_claims`.
            options: Any = {
                "require": ["exp", "iss"],
                **dict.fromkeys(("verify_exp", "verify_nbf", "verify_iat", "verify_aud"), False),
            }
            claims: dict[str, Any] = jwt.decode(
                token, public, algorithms=[algorithm], issuer=self.settings.issuer, options=options
            )
        except (PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise JwtRefused(str(error)) from error
        self._check_times(claims)
        return claims

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        now = self.now()
        for name in ("exp", "nbf", "iat"):
            value = claims.get(name, 0 if name != "exp" else None)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise JwtRefused(f"{name} isn't a number")
        if now >= claims["exp"] + LEEWAY_SECONDS:
            raise JwtRefused("it has expired")
        if max(claims.get("nbf", 0), claims.get("iat", 0)) > now + LEEWAY_SECONDS:
            raise JwtRefused("it isn't valid yet")

    def _key(self, identity: str) -> Key:
        """The key of an id; raises `JwtRefused` when the issuer has none, `Unavailable` when it can't be asked."""
        moment = self.clock()
        age = None if self._read_at is None else moment - self._read_at
        if identity in self._keys and age is not None and age < FRESH_SECONDS:
            return self._keys[identity]
        if self._asked_at is None or moment - self._asked_at >= REFRESH_SECONDS:
            self._asked_at = moment
            try:
                self._keys, self._read_at, age = self._read_keys(), moment, 0.0
            except Unavailable:
                if identity not in self._keys or age is None or age >= KEPT_SECONDS:
                    raise
        if age is None or age >= KEPT_SECONDS:
            raise Unavailable(
                f"The keys of {self.settings.issuer} can't be had.",
                "Check the issuer's health; it is asked again soon.",
            )
        if identity not in self._keys:
            raise JwtRefused(f"the issuer has no key {identity[:100]!r}")
        return self._keys[identity]

    def _read_keys(self) -> dict[str, Key]:
        issuer = self.settings.issuer
        _check_url(issuer)
        discovery = self.fetch(issuer.rstrip("/") + _DISCOVERY)
        if discovery.get("issuer") != issuer:
            raise Unavailable(
                f"{issuer} says that it is {str(discovery.get('issuer'))[:200]!r}.",
                "Write OidcIssuer exactly as the issuer's discovery document has it.",
            )
        location = str(discovery.get("jwks_uri"))
        _check_url(location)
        keys = self.fetch(location).get("keys")
        if not isinstance(keys, list) or len(keys) > MAX_KEYS:
            raise Unavailable(f"{location} holds no list of at most {MAX_KEYS} keys.", "Check the issuer.")
        return {
            key["kid"]: key
            for key in keys
            if isinstance(key, dict) and isinstance(key.get("kid"), str) and key.get("use", "sig") == "sig"
        }


def _check_url(url: str) -> None:
    """Keys that come over a line that anybody may write to prove nothing; this machine's own is the exception."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise Unavailable(f"The OIDC issuer's address {url[:200]!r} isn't https.", "Give OidcIssuer as https://….")
