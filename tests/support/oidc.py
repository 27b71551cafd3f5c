"""A real OIDC issuer on this machine: discovery document, keys and tokens, all made on the fly."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm


def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


class LocalIssuer:
    """Serves what an issuer serves; `down` makes it answer 503, `asked` counts requests by path."""

    def __init__(self) -> None:
        self.keys: dict[str, tuple[str, Any]] = {"first": ("RS256", rsa_key()), "curve": ("ES256", ec_key())}
        self.down = False
        self.asked: dict[str, int] = {}
        self.extra: list[dict[str, Any]] = []
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked[self.path] = issuer.asked.get(self.path, 0) + 1
                document = None if issuer.down else issuer.document(self.path)
                self.send_response(503 if issuer.down else 404 if document is None else 200)
                self.end_headers()
                self.wfile.write(json.dumps(document or {}).encode())

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/pool"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def document(self, path: str) -> dict[str, Any] | None:
        if path == "/pool/.well-known/openid-configuration":
            return {"issuer": self.url, "jwks_uri": f"{self.url}/jwks"}
        return {"keys": [*map(self.public, self.keys), *self.extra]} if path == "/pool/jwks" else None

    def public(self, identity: str) -> dict[str, Any]:
        algorithm, key = self.keys[identity]
        kind: Any = RSAAlgorithm if algorithm == "RS256" else ECAlgorithm
        return {**json.loads(kind.to_jwk(key.public_key())), "kid": identity, "alg": algorithm, "use": "sig"}

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        claims = {
            "iss": self.url,
            "sub": "user-1",
            "aud": "shoal-api",
            "iat": now,
            "exp": now + 600,
            "scope": "openid shoal/predict:digits shoal/read",
        }
        return {name: value for name, value in (claims | changes).items() if value is not None}

    def token(self, identity: str = "first", **changes: Any) -> str:
        algorithm, key = self.keys[identity]
        return jwt.encode(self.claims(**changes), key, algorithm=algorithm, headers={"kid": identity})


@contextmanager
def local_issuer() -> Iterator[LocalIssuer]:
    issuer = LocalIssuer()
    try:
        yield issuer
    finally:
        issuer.close()
