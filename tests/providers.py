"""Providers of sign-in for tests: a real one in a process of its own, and one of ours that can be told to lie."""

import hashlib
import json
import re
import secrets
import subprocess
import sys
import threading
import time
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit

import httpx
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from tests.serving import wait_for

CLIENT, SECRET = "cachescope", "a secret: with colon & ampersand"
KEY = RSAKey.generate_key(2048, {"kid": "first", "use": "sig"})
OTHER_KEY = RSAKey.generate_key(2048, {"kid": "first", "use": "sig"})
"""Has the name of the first, and is another."""


@dataclass
class RealProvider:
    """oidc-provider-mock in a process of its own."""

    process: subprocess.Popen[bytes]
    issuer: str

    def set_user(self, subject: str, **claims: object) -> None:
        """Say what the provider tells of a person."""
        httpx.put(f"{self.issuer}/users/{subject}", json=claims).raise_for_status()

    def sign_in(self, url: str, subject: str) -> str:
        """Fill in the provider's form as a person does, and return where it sends the browser back."""
        answer = httpx.post(url, data={"sub": subject})
        assert answer.status_code == 302, answer.text
        return answer.headers["location"]


@contextmanager
def real_provider(folder: Path, *, token_seconds: int = 3600) -> Iterator[RealProvider]:
    """Run a provider while the block runs."""
    log = folder / f"provider-{secrets.token_hex(4)}.log"
    command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "-p", "0", "-e", str(token_seconds)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        found = wait_for(lambda: re.search(rb"running on (http://[\d.:]+)", log.read_bytes()), f"{log} to say where")
        yield RealProvider(process, found[1].decode())
    finally:
        process.kill()
        process.wait(30)


@dataclass
class CrookedProvider:
    """A provider that keeps to the letter of the protocol until `lie` makes it do otherwise."""

    issuer: str = ""
    claims: dict[str, Any] = field(default_factory=dict)
    """What it tells of whoever signs in, in the id token."""
    profile: dict[str, Any] | None = None
    """What it tells beside the id token."""
    metadata: dict[str, Any] = field(default_factory=dict)
    keys: list[RSAKey] = field(default_factory=lambda: [KEY])
    sign: Callable[[dict[str, Any]], str] = lambda claims: jwt.encode({"alg": "RS256", "kid": "first"}, claims, KEY)
    takes_codes_again: bool = False
    github: dict[str, Any] = field(default_factory=dict)
    """What GitHub's API answers, by path."""
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    status: int = 200

    def sign_in(self, url: str) -> str:
        """Let the person of `claims` sign in, and return where the browser goes back to."""
        given = dict(parse_qsl(urlsplit(url).query))
        assert given["client_id"] == CLIENT
        assert given["response_type"] == "code"
        assert given["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(8)
        self.codes[code] = given
        return f"{given['redirect_uri']}?code={code}&state={given['state']}"

    def answer(self, path: str, fields: dict[str, str], authorization: str) -> tuple[int, Any]:
        """Answer one request."""
        self.asked.append(path)
        if self.status != 200:
            return self.status, {"error": "broken"}
        match path:
            case "/.well-known/openid-configuration":
                return 200, self.described()
            case "/jwks":
                return 200, KeySet(self.keys).as_dict()
            case "/token" | "/login/oauth/access_token":
                return self.trade(fields, authorization)
            case "/userinfo":
                return (200, self.profile) if authorization == "Bearer access" else (401, {})
        if path in self.github:
            return (200, self.github[path]) if authorization == "Bearer access" else (401, {})
        return 404, {}

    def described(self) -> dict[str, Any]:
        """The discovery document."""
        there = {name: f"{self.issuer}/{path}" for name, path in ENDPOINTS.items()}
        if self.profile is None:
            del there["userinfo_endpoint"]
        return {"issuer": self.issuer, **there, **self.metadata}

    def trade(self, fields: dict[str, str], authorization: str) -> tuple[int, Any]:
        """Give a token for a code, if everything about it is right."""
        given = self.codes.get(fields.get("code", ""))
        client, secret = fields.get("client_id", ""), fields.get("client_secret", "")
        if authorization.startswith("Basic "):
            client, _, secret = (unquote(part) for part in b64decode(authorization[6:]).decode().partition(":"))
        hashed = urlsafe_b64encode(hashlib.sha256(fields.get("code_verifier", "").encode()).digest()).rstrip(b"=")
        if (
            given is None
            or (client, secret) != (CLIENT, SECRET)
            or given["code_challenge"] != hashed.decode()
            or given["redirect_uri"] != fields.get("redirect_uri")
        ):
            return 400, {"error": "invalid_grant"}
        if not self.takes_codes_again:
            del self.codes[fields["code"]]
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "sub": "1", "iat": now, "exp": now + 300}
        claims |= {"nonce": given["nonce"]} if "nonce" in given else {}
        claims = {name: value for name, value in (claims | self.claims).items() if value is not ...}
        return 200, {"access_token": "access", "token_type": "Bearer", "id_token": self.sign(claims)}


ENDPOINTS = {
    "authorization_endpoint": "authorize",
    "token_endpoint": "token",
    "jwks_uri": "jwks",
    "userinfo_endpoint": "userinfo",
    "end_session_endpoint": "end",
}


@contextmanager
def crooked_provider(**given: Any) -> Iterator[CrookedProvider]:
    """Run a provider of ours on loopback while the block runs."""
    provider = CrookedProvider(**given)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply({})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            self.reply({name: values[0] for name, values in parse_qs(body).items()})

        def reply(self, fields: dict[str, str]) -> None:
            path = urlsplit(self.path).path
            status, content = provider.answer(path, fields, self.headers.get("authorization", ""))
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.issuer = provider.issuer or f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join(30)
