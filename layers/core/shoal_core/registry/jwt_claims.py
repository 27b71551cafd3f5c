"""What a verified JWT of an OIDC issuer says: who sent it, and which of Shoal's scopes it holds.

Standards: OpenID Connect Core 1.0 3.1.3.7, RFC 9068 (access tokens), and Cognito's own claims
(https://docs.aws.amazon.com/cognito/latest/developerguide/amazon-cognito-user-pools-using-the-access-token.html).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from shoal_core.registry.access import MAX_SCOPES, Caller, is_scope

GROUPS = "cognito:groups"
MAX_ID_LENGTH = 128


class JwtRefused(Exception):
    """A JWT that proves nobody. The reason is for the log, never for the sender."""


@dataclass(frozen=True)
class OidcSettings:
    """Which JWTs are believed, as the template's parameters say.

    Attributes:
        issuer: `https://…`, as it stands in `iss`; empty when JWTs are off.
        audiences: One of these must be in `aud`; a Cognito access token has its `client_id` instead.
        clients: When not empty, `azp` (or `client_id`) must be one of these.
        claim: A claim with further scopes, beside `scope`, `scp` and `cognito:groups`; empty for none.
        prefix: What Shoal's scopes start with there: `shoal/predict:digits` is the scope `predict:digits`. Without one,
            a group called `admin` that was meant for something else would be Shoal's.
    """

    issuer: str = ""
    audiences: tuple[str, ...] = ()
    clients: tuple[str, ...] = ()
    claim: str = ""
    prefix: str = "shoal/"

    @property
    def is_on(self) -> bool:
        """Whether JWTs are believed at all."""
        return bool(self.issuer and self.audiences)


def caller_of_claims(claims: Mapping[str, Any], settings: OidcSettings) -> Caller:
    """The caller that a JWT proves, whose signature, issuer and times hold.

    Raises:
        JwtRefused: It is meant for somebody else, or names nobody.
    """
    # RFC 7519 4.1.3: a text is one audience, whatever it holds.
    meant_for = claims.get("aud")
    audiences = tuple(_texts([meant_for] if isinstance(meant_for, str) else meant_for))
    client = claims.get("azp", claims.get("client_id"))
    if client is not None and not isinstance(client, str):
        raise JwtRefused("azp isn't a text")
    meant = audiences or ((client,) if client else ())
    if not set(meant) & set(settings.audiences):
        raise JwtRefused(f"it is for {meant}")
    if len(audiences) > 1 and client is None:
        raise JwtRefused("it is for several audiences and has no azp")
    if settings.clients and client not in settings.clients:
        raise JwtRefused(f"it was issued to {client!r}")
    subject = claims.get("sub") or client
    if not isinstance(subject, str) or not subject.isprintable():
        raise JwtRefused("it has no sub")
    return Caller(f"oidc:{subject[:MAX_ID_LENGTH]}", _scopes(claims, settings))


def _scopes(claims: Mapping[str, Any], settings: OidcSettings) -> tuple[str, ...]:
    names = ("scope", "scp", GROUPS, *([settings.claim] if settings.claim else []))
    found = dict.fromkeys(
        text.removeprefix(settings.prefix)
        for name in names
        for text in _texts(claims.get(name))
        if text.startswith(settings.prefix) and is_scope(text.removeprefix(settings.prefix))
    )
    return tuple(found)[:MAX_SCOPES]


def _texts(value: object) -> Iterator[str]:
    """A claim's values: texts divided by spaces, or a list of texts."""
    if isinstance(value, str):
        yield from value.split()
    elif isinstance(value, list):
        yield from (entry for entry in value if isinstance(entry, str) and entry)
