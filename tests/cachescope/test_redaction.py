"""Secrets leave logs whatever surrounds them, and ordinary lines stay as they are.

All secrets are made at random while the test runs: none stands in the repository.
"""

import base64
import json
import random
import string
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachescope.redaction import LINE_CAP, Redactor, redact_text

ALNUM = string.ascii_letters + string.digits
WORD = ALNUM + "_-"
HEX = "0123456789abcdef"
BASE64 = ALNUM + "+/"
FIXTURES = Path(__file__).parent / "formats"


def some(rng: random.Random, letters: str, count: int) -> str:
    return "".join(rng.choice(letters) for _ in range(count))


def packed(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def jwt(rng: random.Random) -> str:
    head = packed(json.dumps({"alg": "RS256", "typ": "JWT"}))
    body = packed(json.dumps({"sub": some(rng, ALNUM, 12), "exp": rng.randrange(10**9)}))
    return f"{head}.{body}.{some(rng, WORD, 86)}"


def uuid(rng: random.Random) -> str:
    return "-".join(some(rng, HEX, count) for count in (8, 4, 4, 4, 12))


# What a secret looks like by itself: found wherever it stands.
BARE: dict[str, Callable[[random.Random], str]] = {
    "github_classic": lambda r: f"ghp_{some(r, ALNUM, 36)}",
    "github_fine_grained": lambda r: f"github_pat_{some(r, ALNUM, 22)}_{some(r, ALNUM, 59)}",
    "github_oauth": lambda r: f"gho_{some(r, ALNUM, 36)}",
    "github_user": lambda r: f"ghu_{some(r, ALNUM, 36)}",
    "github_app": lambda r: f"ghs_{some(r, ALNUM, 36)}",
    "github_app_long": lambda r: f"ghs_{r.randrange(10**6)}_{jwt(r)}",
    "github_refresh": lambda r: f"ghr_{some(r, ALNUM, 76)}",
    "gitlab_personal": lambda r: f"glpat-{some(r, WORD, 20)}",
    "gitlab_routable": lambda r: f"glpat-{some(r, WORD, 27)}.{some(r, ALNUM, 2)}.{some(r, ALNUM, 9)}",
    "gitlab_job": lambda r: f"glcbt-{some(r, ALNUM, 2)}_{some(r, WORD, 20)}",
    "gitlab_runner": lambda r: f"glrt-{some(r, WORD, 20)}",
    "gitlab_runner_registration": lambda r: f"GR1348941{some(r, WORD, 20)}",
    "gitlab_deploy": lambda r: f"gldt-{some(r, WORD, 20)}",
    "gitlab_trigger": lambda r: f"glptt-{some(r, HEX, 40)}",
    "bitbucket": lambda r: f"ATBB{some(r, ALNUM, 32)}",
    "buildkite": lambda r: f"bkua_{some(r, HEX, 40)}",
    "circleci": lambda r: f"CCIPAT_{some(r, ALNUM, 22)}_{some(r, HEX, 40)}",
    "npm": lambda r: f"npm_{some(r, ALNUM, 36)}",
    "package_index": lambda r: f"pypi-AgE{some(r, WORD, 160)}",
    "docker_hub": lambda r: f"dckr_pat_{some(r, WORD, 27)}",
    "aws_access_key": lambda r: f"AKIA{some(r, string.ascii_uppercase + '234567', 16)}",
    "aws_temporary_key": lambda r: f"ASIA{some(r, string.ascii_uppercase + '234567', 16)}",
    "aws_session_token": lambda r: f"IQoJb3JpZ2luX2Vj{some(r, BASE64, 300)}==",
    "google_api_key": lambda r: f"AIza{some(r, WORD, 35)}",
    "slack_bot": lambda r: f"xoxb-{some(r, string.digits, 12)}-{some(r, string.digits, 12)}-{some(r, ALNUM, 24)}",
    "stripe": lambda r: f"sk_live_{some(r, ALNUM, 24)}",
    "stripe_restricted": lambda r: f"rk_test_{some(r, ALNUM, 99)}",
    "twilio": lambda r: f"SK{some(r, HEX, 32)}",
    "sendgrid": lambda r: f"SG.{some(r, WORD, 22)}.{some(r, WORD, 43)}",
    "mailgun": lambda r: f"key-{some(r, HEX, 32)}",
    "telegram": lambda r: f"{r.randrange(10**8, 10**10)}:AA{some(r, WORD, 33)}",
    "heroku": lambda r: f"HRKU-{uuid(r)}",
    "digitalocean": lambda r: f"dop_v1_{some(r, HEX, 64)}",
    "vault": lambda r: f"hvs.{some(r, WORD, 24)}",
    "vault_batch": lambda r: f"hvb.{some(r, WORD, 138)}",
    "jwt": jwt,
    "sentry": lambda r: f"sntrys_{packed(some(r, ALNUM, 60))}_{some(r, BASE64, 43)}",
    "packed_private_key": lambda r: base64.b64encode(
        f"-----BEGIN OPENSSH PRIVATE KEY-----\n{some(r, BASE64, 70)}\n".encode()
    ).decode(),
}

# What only its surroundings give away: {} is the secret.
NAMED: dict[str, tuple[str, Callable[[random.Random], str]]] = {
    "datadog": ("DD_API_KEY={}", lambda r: some(r, HEX, 32)),
    "heroku_uuid": ("HEROKU_API_KEY={}", uuid),
    "circleci_old": ("CIRCLE_TOKEN={}", lambda r: some(r, HEX, 40)),
    "npm_old": ("//registry.example.com/:_authToken={}", uuid),
    "aws_secret": ("aws_secret_access_key = {}", lambda r: some(r, BASE64, 40)),
    "aws_secret_json": ('"SecretAccessKey": "{}"', lambda r: some(r, BASE64, 40)),
    "aws_session_json": ('"SessionToken": "{}"', lambda r: some(r, BASE64, 300)),
    "azure_storage": (
        "DefaultEndpointsProtocol=https;AccountName=acme;AccountKey={};EndpointSuffix=core.windows.net",
        lambda r: some(r, BASE64, 86) + "==",
    ),
    "azure_sas": (
        "https://acme.blob.core.windows.net/logs/a?sv=2022-11-02&se=2026-01-01T00%3A00%3A00Z&sr=b&sp=r&sig={}",
        lambda r: urllib.parse.quote(some(r, BASE64, 43) + "=", safe=""),
    ),
    "s3_signed": (
        "https://b.s3.amazonaws.com/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=900&X-Amz-Signature={}",
        lambda r: some(r, HEX, 64),
    ),
    "gcs_signed": (
        "https://storage.googleapis.com/b/k?X-Goog-Expires=900&X-Goog-Signature={}",
        lambda r: some(r, HEX, 512),
    ),
    "slack_webhook": (
        "https://hooks.slack.com/services/{}",
        lambda r: f"T{some(r, ALNUM, 8).upper()}/B{some(r, ALNUM, 10).upper()}/{some(r, ALNUM, 24)}",
    ),
    "discord_webhook": (
        "https://discord.com/api/webhooks/{}",
        lambda r: f"{r.randrange(10**17, 10**18)}/{some(r, WORD, 68)}",
    ),
    "sentry_dsn": ("https://" + "0" * 32 + ":{}@o1.ingest.sentry.example/42", lambda r: some(r, HEX, 32)),
    "basic_auth": ("https://deploy:{}@git.example.com/acme/api.git", lambda r: some(r, ALNUM + "-._~!", 14)),
    "basic_auth_bitbucket": ("https://x-token-auth:{}@bitbucket.org/acme/api.git", lambda r: some(r, ALNUM, 30)),
    "basic_auth_redis": ("redis://:{}@cache:6379/0", lambda r: some(r, ALNUM, 20)),
    "token_as_user": ("https://{}@git.example.com/acme/api.git", lambda r: some(r, ALNUM, 40)),
    "authorization_bearer": ("Authorization: Bearer {}", lambda r: some(r, ALNUM, 40)),
    "authorization_basic": (
        "> authorization: Basic {}",
        lambda r: base64.b64encode(some(r, ALNUM, 20).encode()).decode(),
    ),
    "authorization_curl": ("curl -H 'Authorization: token {}' https://example.com", lambda r: some(r, HEX, 40)),
    "private_token": ("PRIVATE-TOKEN: {}", lambda r: some(r, WORD, 20)),
    "registry_auth": ('"auth": "{}"', lambda r: base64.b64encode(f"me:{some(r, ALNUM, 12)}".encode()).decode()),
    "build_arg": ("docker build --build-arg DB_PASSWORD={} -t app .", lambda r: some(r, ALNUM + "!#%@", 10)),
    "build_arg_quoted": (
        'docker build --build-arg "DB_PASSWORD={}" .',
        lambda r: some(r, ALNUM + " !", 15).strip() + "x",
    ),
    "arg": ("ARG NPM_TOKEN={}", lambda r: some(r, ALNUM, 10)),
    "env": ("ENV APP_SECRET={}", lambda r: some(r, ALNUM + "$%^", 12) + "q"),
    "env_quoted": ("ENV APP_SECRET='{}' OTHER=1", lambda r: some(r, ALNUM + " $%", 12) + "q"),
    "env_old": ("ENV GITHUB_CREDENTIALS {}", lambda r: some(r, ALNUM, 12)),
    "export": ("export STRIPE_API_KEY={}; npm ci", lambda r: some(r, ALNUM, 12)),
    "shell": ("RUN SSH_PRIVATE_KEY={} npm ci && echo done", lambda r: some(r, ALNUM, 12)),
    "lower": ("db_passwd={}", lambda r: some(r, ALNUM, 12)),
    "short": ("POSTGRES_PASSWORD={}", lambda r: some(r, ALNUM, 4)),
    "query": ("GET https://example.com/a?access_token={}&page=2", lambda r: some(r, ALNUM, 24)),
    "cache_option": ("--cache-to type=s3,bucket=b,secret_access_key={},region=eu", lambda r: some(r, BASE64, 40)),
    "flag": ("helm registry login -u me --password {} registry.example.com", lambda r: some(r, ALNUM, 12)),
    "json": ('{{"client_secret": "{}", "a": 1}}', lambda r: some(r, ALNUM, 12)),
    "yaml": ("    NPM_TOKEN: {}", lambda r: some(r, ALNUM, 12)),
}

SECRETS = {name: ("{}", make) for name, make in BARE.items()} | NAMED


def rawjson(line: str) -> str:
    logs = [{"vertex": "sha256:" + "a" * 64, "stream": 1, "data": base64.b64encode((line + "\n").encode()).decode()}]
    return json.dumps({"logs": logs}, separators=(",", ":"))


def vertex(line: str) -> str:
    return json.dumps({"vertexes": [{"digest": "sha256:" + "b" * 64, "name": f"[2/5] RUN {line}"}]})


def go_json(line: str) -> str:
    """As Go writes it: with <, > and & escaped."""
    return json.dumps({"stream": line + "\n"}).replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


CONTEXTS: dict[str, Callable[[str], str]] = {
    "alone": lambda line: line,
    "output": lambda line: f"#8 0.123 {line}",
    "step": lambda line: f"#8 [build 3/7] RUN set -x && {line}",
    "classic": lambda line: f"Step 4/9 : RUN {line}",
    "stamped": lambda line: f"2026-11-20T10:11:12.1234567Z #8 0.123 {line}",
    "coloured": lambda line: f"#8 0.1 \x1b[31m{line}\x1b[0m",
    "windows": lambda line: f"#8 0.123 {line}\r",
    "engine_json": go_json,
    "rawjson_output": rawjson,
    "rawjson_step": vertex,
}


def everything_in(log: bytes) -> str:
    """Return a log with all that its base64 strings hold."""
    texts = [log.decode()]
    for line in log.decode().splitlines():
        if line.startswith("{"):
            document = json.loads(line)
            texts.append(json.dumps(document, ensure_ascii=False))
            texts += [base64.b64decode(entry["data"]).decode() for entry in document.get("logs", [])]
    return "\n".join(texts)


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("kind", SECRETS)
def test_a_secret_of_every_kind_is_found_in_every_context(kind: str, context: str) -> None:
    rng = random.Random(f"{kind} {context}")
    template, make = SECRETS[kind]
    for _ in range(3):
        secret = make(rng)
        log = CONTEXTS[context](template.format(secret)) + "\n"
        redactor = Redactor()
        clean = redactor.redact(b"#7 DONE 1.0s\n" + log.encode() + b"#9 DONE 2.0s\n")
        assert secret not in everything_in(clean), clean
        assert redactor.replacements == 1, clean
        assert clean.startswith(b"#7 DONE 1.0s\n")
        assert clean.endswith(b"#9 DONE 2.0s\n")
        assert "[redacted: " in everything_in(clean)


@pytest.mark.parametrize("kind", BARE)
def test_a_secret_is_found_in_an_encoded_query(kind: str) -> None:
    rng = random.Random(kind)
    secret = BARE[kind](rng)
    line = (
        f"GET https://example.com/?next={urllib.parse.quote('https://x/?k=' + secret, safe='')}%26a%3D1 200\n".encode()
    )
    clean = Redactor().redact(line)
    assert urllib.parse.quote(secret, safe="").encode() not in clean
    assert clean.endswith(b" 200\n")


def test_a_thousand_seeded_secrets_leave_nothing_behind() -> None:
    rng = random.Random(20261123)
    secrets, lines = [], []
    for _ in range(1000):
        template, make = SECRETS[rng.choice(list(SECRETS))]
        secret = make(rng)
        secrets.append(secret)
        lines.append(rng.choice(list(CONTEXTS.values()))(template.format(secret)))
        lines += rng.choices(["#5 DONE 0.1s", "#6 sha256:" + some(rng, HEX, 64), "Collecting fastapi==0.110.0"], k=3)
    redactor = Redactor()
    clean = everything_in(b"".join(redactor.redact_chunks(cut("\n".join(lines).encode(), 777))))
    assert [secret for secret in secrets if len(secret) > 8 and secret in clean] == []
    assert redactor.replacements >= 1000


def cut(log: bytes, size: int) -> list[bytes]:
    return [log[at : at + size] for at in range(0, len(log), size)]


def test_the_rest_of_the_line_stays() -> None:
    token = f"ghp_{some(random.Random(1), ALNUM, 36)}"
    assert (
        redact_text(f"#8 0.1 cloning with {token} into /src")
        == "#8 0.1 cloning with [redacted: GitHub token] into /src"
    )
    assert redact_text("RUN NPM_TOKEN=abc npm ci && rm x") == "RUN NPM_TOKEN=[redacted: token] npm ci && rm x"
    assert redact_text("https://me:pw@host/path?a=1") == "https://me:[redacted: basic auth]@host/path?a=1"
    assert redact_text('ENV A=1 DB_PASSWORD="a b" C=2') == 'ENV A=1 DB_PASSWORD="[redacted: password]" C=2'


HEX40, MIXED40 = "3f9c2ab1d5" * 4, "aB3/xY9+qW" * 4
S = "correcthorse1"


@pytest.mark.parametrize(
    ("line", "clean"),
    [
        (
            f"AKIA{'ABCDEFGH23' * 2}"[:20] + f" {MIXED40} x",
            "[redacted: AWS access key id] [redacted: AWS secret key] x",
        ),
        (
            f"u=https%3A%2F%2Fme%3A{S}%40git.example.com%2Fa",
            "u=https%3A%2F%2Fme%3A[redacted: basic auth]%40git.example.com%2Fa",
        ),
        (f"next=NPM_TOKEN%3D{S}%26a%3D1", "next=NPM_TOKEN%3D[redacted: token]%26a%3D1"),
        ("next=NPM_TOKEN%3D%26a%3D1", "next=NPM_TOKEN%3D%26a%3D1"),
        (f'Authorization: Digest username="me", response="{HEX40}"', "Authorization: Digest [redacted: authorization]"),
        (f'{{"Authorization": "Bearer {S}", "a": 1}}', '{"Authorization": "Bearer [redacted: authorization]", "a": 1}'),
        ("authorization: granted", "authorization: granted"),
        ("authorization failed", "authorization failed"),
        ("Authorization:", "Authorization:"),
        ('{"auth": "bWU6cGFzcw=="}', '{"auth": "[redacted: registry auth]"}'),
        ('{"auth": "basic", "tokenType": "Bearer"}', '{"auth": "basic", "tokenType": "Bearer"}'),
        ('{"token": 12, "password": ""}', '{"token": 12, "password": ""}'),
        (f'sh -c "NPM_TOKEN={S} npm ci"', 'sh -c "NPM_TOKEN=[redacted: token] npm ci"'),
        (f'["NPM_TOKEN={S} and more", "B=1"]', '["NPM_TOKEN=[redacted: token]", "B=1"]'),
        (f'echo NPM_TOKEN="{S}', 'echo NPM_TOKEN="[redacted: token]'),
        ('echo NPM_TOKEN="', 'echo NPM_TOKEN="'),
        ("DB_PASSWORD=ab'cd\"ef gh", "DB_PASSWORD=[redacted: password] gh"),
        (f"A_TOKEN={S}&&npm ci", "A_TOKEN=[redacted: token]&&npm ci"),
        (f"(A_TOKEN={S}; npm ci)", "(A_TOKEN=[redacted: token]; npm ci)"),
        (f"?token={S}#part", "?token=[redacted: token]#part"),
        (f"--set a=1,token={S},b=2", "--set a=1,token=[redacted: token],b=2"),
        (f"--set token={S},b=2", "--set token=[redacted: token],b=2"),
        (f"X-Vault-Token: {S}", "X-Vault-Token: [redacted: token]"),
        (f'password: "{S}"', 'password: "[redacted: password]"'),
        (f"password: {S}", "password: [redacted: password]"),
        ("password: abc", "password: abc"),
        ("token:", "token:"),
        ("tokenizer: abcdefgh1234", "tokenizer: abcdefgh1234"),
        (f'ENV API_KEY "{S} x"', 'ENV API_KEY "[redacted: API key]"'),
        (f"docker login --password {S}", "docker login --password [redacted: password]"),
        (f"docker login --password '{S}'", "docker login --password '[redacted: password]'"),
        ("docker login --password -u me", "docker login --password -u me"),
        (f"token = {S}", "token = [redacted: token]"),
        ("token = parser.next() # 1", "token = parser.next() # 1"),
        ("token == other1234", "token == other1234"),
        ("AUTH = x, auth=basic", "AUTH = x, auth=basic"),
        ("PASSWORD_MIN_LENGTH=12", "PASSWORD_MIN_LENGTH=12"),
        ("NPM_TOKEN=", "NPM_TOKEN="),
        ("echo NPM_TOKEN=`cat x`", "echo NPM_TOKEN=`cat x`"),
        ("A_TOKEN=\x00", "A_TOKEN=\x00"),
        ("A_TOKEN: `x`", "A_TOKEN: `x`"),
        ("-----BEGIN PRIVATE KEY-----abc-----END PRIVATE KEY----- x", "[redacted: private key] x"),
        ("LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg", "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg"),
    ],
)
def test_a_value_ends_where_its_surroundings_say(line: str, clean: str) -> None:
    assert redact_text(line) == clean


def test_a_token_without_signs_is_found_as_a_string_of_json() -> None:
    key = "AKIA" + "ABCDEFGH234567IJ"
    line = json.dumps({"AccessKeyId": key, "data": base64.b64encode(b"words of a build " * 9).decode()}).encode()
    assert json.loads(Redactor().redact(line))["AccessKeyId"] == "[redacted: AWS access key id]"


@pytest.mark.parametrize(
    "message",
    [b"\x0b", b"\x0a\x05ab", b"\x80" * 12, b"\x09\x00", b"\x0a\x80", b"\x0a\x00\x00\x00"],
    ids=["group", "short text", "endless number", "short number", "cut", "empty text"],
)
def test_what_is_no_message_comes_back_as_it_is(message: bytes) -> None:
    aux = base64.b64encode(message + b"\0 TOKEN: 1").decode()
    line = json.dumps({"id": "moby.buildkit.trace", "aux": aux}).encode()
    assert Redactor().redact(line) == line


def test_long_texts_in_messages_keep_their_length_right() -> None:
    text = b"x" * 300 + b" NPM_TOKEN=abcdef"
    line = json.dumps({"aux": base64.b64encode(field(3, text) + b"\x08\x01").decode()}).encode()
    clean = base64.b64decode(json.loads(Redactor().redact(line))["aux"])
    assert clean == field(3, b"x" * 300 + b" NPM_TOKEN=[redacted: token]") + b"\x08\x01"


@pytest.mark.parametrize(
    "line",
    [
        "#6 sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 3.1MB / 31.4MB 0.3s",
        "HEAD is now at 3f9c2ab1d5e6f7a8b9c0d1e2f3a4b5c6d7e8f9a0 Merge",
        "npm integrity sha512-" + "aB3/" * 21 + "aB==",
        "RUN --mount=type=secret,id=npm_token,target=/root/.npmrc npm ci",
        "RUN --mount=type=secret,id=NPM_TOKEN,env=NPM_TOKEN npm ci",
        "docker buildx build --secret id=npm_token,src=.npmrc .",
        "ENV NPM_TOKEN=$NPM_TOKEN",
        "ARG NPM_TOKEN",
        "    NPM_TOKEN: ***",
        "Authorization: ***",
        "https://x-access-token:***@github.com/acme/api",
        "https://deploy:${DEPLOY_TOKEN}@github.com/acme/api",
        "git+ssh://git@github.com/acme/api.git",
        "docker login --username me --password-stdin registry.example.com",
        'SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV "NPM_TOKEN") (line 4)',
        "error: unexpected token: `}` in file app.js",
        "Unpacking libpython3-stdlib:amd64 (3.11.2-1+b1) over (3.11.1) ...",
        "test_token_is_refused_when_it_has_expired PASSED",
        "PASSWORD_FILE=/run/secrets/db_password",
        "max_tokens=4096 tokens: 12",
        "Downloading https://files.example.com/packages/ab/cd/0123456789abcdef0123456789abcdef/fastapi-0.110.0-py3-none-any.whl",
        "http://registry:4873/@scope/package",
        "go: downloading github.com/acme/token v0.0.0-20240102030405-abcdef012345",
        "[redacted: GitHub token]",
    ],
)
def test_what_is_no_secret_stays(line: str) -> None:
    assert redact_text(line) == line


def test_redacting_twice_changes_nothing_more() -> None:
    rng = random.Random(3)
    lines = [template.format(make(rng)) for template, make in SECRETS.values()]
    once = redact_text("\n".join(lines))
    again = Redactor()
    assert again.redact(once.encode()).decode() == once
    assert again.replacements == 0


def private_key(rng: random.Random, kind: str = "RSA PRIVATE KEY") -> list[str]:
    body = [some(rng, BASE64, 64) for _ in range(6)] + [some(rng, BASE64, 20) + "=="]
    return [f"-----BEGIN {kind}-----", *body, f"-----END {kind}-----"]


@pytest.mark.parametrize("kind", ["PRIVATE KEY", "RSA PRIVATE KEY", "OPENSSH PRIVATE KEY", "PGP PRIVATE KEY BLOCK"])
@pytest.mark.parametrize("size", [1 << 20, 40])
def test_every_line_of_a_private_key_goes(kind: str, size: int) -> None:
    lines = private_key(random.Random(kind), kind)
    log = "".join(f"#8 {0.1 + at / 10:.3f} {line}\n#9 0.{at} compiling module {at}\n" for at, line in enumerate(lines))
    log += "#8 2.0 done with the key\n"
    redactor = Redactor()
    clean = b"".join(redactor.redact_chunks(cut(log.encode(), size))).decode()
    assert [line for line in lines if line in clean] == []
    assert clean.count("compiling module") == len(lines)
    assert clean.count("\n") == log.count("\n")
    assert clean.endswith("#8 2.0 done with the key\n")
    assert redactor.replacements == len(lines)


def test_a_private_key_in_one_line_goes() -> None:
    lines = private_key(random.Random(5), "PRIVATE KEY")
    account = json.dumps({"type": "service_account", "private_key": "\n".join(lines), "client_id": "1"})
    clean = Redactor().redact(account.encode()).decode()
    assert [line for line in lines[1:-1] if line in clean] == []
    assert json.loads(clean)["client_id"] == "1"


def test_a_private_key_in_the_output_of_rawjson_goes() -> None:
    lines = private_key(random.Random(6))
    log = "\n".join([rawjson(lines[0] + "\n" + lines[1]), *map(rawjson, lines[2:]), rawjson("compiling")]) + "\n"
    clean = everything_in(Redactor().redact(log.encode()))
    assert [line for line in lines[1:-1] if line in clean] == []
    assert "compiling" in clean


def test_a_key_block_without_an_end_does_not_swallow_the_log() -> None:
    log = b"-----BEGIN RSA PRIVATE KEY-----\n" + b"Collecting\n" * 1000
    assert Redactor().redact(log).count(b"Collecting") > 500


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number: int, text: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(text)) + text


def test_the_traces_of_docker_20_10_are_redacted_and_stay_messages() -> None:
    secret = some(random.Random(7), ALNUM, 30)
    inner = field(1, b"sha256:" + b"c" * 64) + field(3, f"[2/3] RUN NPM_TOKEN={secret} npm ci".encode()) + b"\x20\x01"
    trace = field(1, inner) + b"\x09" + b"\0" * 8 + b"\x15" + b"\0" * 4
    line = json.dumps({"id": "moby.buildkit.trace", "aux": base64.b64encode(trace).decode()})
    redactor = Redactor()
    clean = base64.b64decode(json.loads(redactor.redact(line.encode()))["aux"])
    name = b"[2/3] RUN NPM_TOKEN=[redacted: token] npm ci"
    assert clean == field(1, field(1, b"sha256:" + b"c" * 64) + field(3, name) + b"\x20\x01") + trace[-14:]
    assert redactor.replacements == 1


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_any_bytes_come_out_without_an_exception(log: bytes) -> None:
    assert Redactor().redact(log).count(b"\n") == log.count(b"\n")


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_text_comes_out_without_an_exception(text: str) -> None:
    redact_text(text)


@pytest.mark.parametrize(
    "piece",
    [
        b"eyJ",
        b"token=",
        b'token="',
        b"://",
        b"a:b@",
        b"-----BEGIN PRIVATE KEY-----",
        b"ghs_",
        b'\\"',
        b"SG.",
        b"%3A%2F%2F",
        b"authorization: ",
        b'"auth":',
        b"key ",
        b"aB3-",
        b"token: ",
        b"PASSWORD=${",
        b"AKIA",
        b"token ",
    ],
)
def test_hostile_lines_take_linear_time(piece: bytes) -> None:
    import time

    def seconds(size: int) -> float:
        log = piece * (size // len(piece))
        start = time.process_time()
        Redactor().redact(log)
        return time.process_time() - start

    seconds(1000)
    small, large = seconds(64 * 1024), seconds(512 * 1024)
    assert large < 24 * small + 0.2


def test_a_line_without_end_is_cut_where_no_secret_is_torn() -> None:
    rng = random.Random(8)
    secrets = [f"ghp_{some(rng, ALNUM, 36)}" for _ in range(2000)]
    log = " ".join(f"{some(rng, string.ascii_lowercase, rng.randrange(900))} {secret}" for secret in secrets).encode()
    assert len(log) > LINE_CAP / 2
    redactor = Redactor()
    clean = b"".join(redactor.redact_chunks(cut(log * 4, 100_000)))
    assert redactor.replacements == 8000
    assert b"ghp_" not in clean


def test_at_most_one_ordinary_line_in_ten_thousand_is_altered() -> None:
    lines = altered = 0
    for path in FIXTURES.rglob("*.log"):
        log = path.read_bytes()
        clean = Redactor().redact(log)
        lines += log.count(b"\n")
        altered += sum(
            a != b and b"API_TOKEN=" not in a for a, b in zip(log.split(b"\n"), clean.split(b"\n"), strict=True)
        )
    assert lines > 1000
    assert altered <= max(lines / 10_000, 1)


# More ways in which logs name a value: {n} is a telling name, {v} the secret.
SHAPES = (
    "docker build --build-arg={n}={v} .",
    "STEP 2: ENV A=b {n}={v} C=d",
    "Step 3/9 : ENV {n} {v}",
    'declare -x {n}="{v}"',
    '$env:{n} = "{v}"',
    'setx {n} "{v}"',
    "gh secret set {n} --body {v}",
    "- name: {n}\n  value: {v}",
    "- name: '{n}'\n  value: \"{v}\"",
    '{{"{n}":"{v}"}}',
    '{{\\"{n}\\": \\"{v}\\"}}',
    ':{n} => "{v}"',
    "'{n}' => '{v}',",
    "{n} := {v}",
    "-Dapp.{n}={v} -Dother=1",
    "https://example.com/a?b=1&{n}={v}#top",
    "Env:[PATH=/bin {n}={v} HOME=/root]",
)
NAMES = (
    "NPM_TOKEN",
    "SECRET_KEY_BASE",
    "DB_PASSWORD",
    "SONAR_TOKEN_2",
    "DEPLOY_PRIVATE_KEY",
    "STRIPE_API_KEY",
    "GCP_CREDENTIALS",
)
COMMANDS = (
    "curl -u me:{v} https://example.com",
    "curl -sS --user 'me:{v}' https://example.com",
    "docker login -u me -p {v} registry.example.com",
    "helm registry login -u me -p '{v}' registry.example.com",
    "sshpass -p {v} ssh host",
    "mysql -uroot -p{v} app",
    "machine api.example.com login me password {v}",
    "Data Source=db;Uid=me;Pwd={v};",
    "<server><username>me</username><password>{v}</password></server>",
    "{{Username:me Password:{v} Host:db}}",
    "ansible_ssh_pass: {v}",
    "--set auth.password={v}",
    '"auth":\n\t\t\t"{v}"',
)


@pytest.mark.parametrize("line", [*(shape.replace("{n}", name) for shape in SHAPES for name in NAMES), *COMMANDS])
@pytest.mark.parametrize("prefix", ["", "2026-11-20T10:11:12.1Z #8 0.123 ", "web_1  | ", "\x1b[91m"])
def test_a_value_is_found_however_its_name_is_written(line: str, prefix: str) -> None:
    rng = random.Random(line)
    secret = some(rng, ALNUM, 20) + "4x"
    text = "".join(f"{prefix}{part}\n" for part in [*line.format(v=secret).split("\n"), "ordinary"])
    redactor = Redactor()
    clean = redactor.redact(text.encode()).decode()
    assert secret not in clean
    assert clean.count("\n") == text.count("\n")
    assert clean.endswith(f"{prefix}ordinary\n")
    assert redactor.replacements == 1


@pytest.mark.parametrize("flag", ["--password", "--token", "--passphrase"])
def test_an_option_behind_a_colour_is_one(flag: str) -> None:
    clean = Redactor().redact(f'\x1b[91m{flag} "hunter2hunter"\n'.encode())
    assert clean == f'\x1b[91m{flag} "[redacted: {"token" if flag == "--token" else "password"}]"\n'.encode()


@pytest.mark.parametrize(
    "line",
    [
        "docker run -u 1000:1000 --user node:node app",
        "docker login -u me -p $TOKEN registry.example.com",
        "docker login --username me --password-stdin",
        "mysql -uroot -p app",
        "curl -u $USER:$PASS https://example.com",
        "PWD=/app OLDPWD=/",
        "<password></password>",
        "- name: tokenizer\n  version: 2",
        '"auth":\n  {"a": 1}',
        'gh secret set NPM_TOKEN --body "$NPM_TOKEN"',
    ],
)
def test_what_commands_name_without_a_value_stays(line: str) -> None:
    assert Redactor().redact(line.encode() + b"\n") == line.encode() + b"\n"


def test_a_name_at_the_end_of_one_chunk_names_a_value_in_the_next() -> None:
    redactor = Redactor()
    assert redactor.redact(b'  "auth":\n') == b'  "auth":\n'
    assert redactor.redact(b'    "bWU6c2VjcmV0"\nnext\n') == b'    "[redacted: secret]"\nnext\n'
    assert redactor.redact(b'    "bWU6c2VjcmV0"\n') == b'    "bWU6c2VjcmV0"\n'


def entries(*texts: str, vertex: str = "a") -> str:
    logs = [
        {
            "vertex": "sha256:" + vertex * 64,
            "stream": 1,
            "data": base64.b64encode(text.encode()).decode(),
            "timestamp": "t",
        }
        for text in texts
    ]
    return json.dumps({"logs": logs}, separators=(",", ":"))


@pytest.mark.parametrize("at", [1, 5, 12, 20, 39])
@pytest.mark.parametrize("lines", [1, 2])
def test_a_secret_that_two_entries_of_rawjson_share_is_found(at: int, lines: int) -> None:
    token = "ghp_" + some(random.Random(at), ALNUM, 36)
    first, second = f"before\nuse {token[:at]}", f"{token[at:]} now\nafter\n"
    log = entries(first, second) if lines == 1 else entries(first) + "\n" + entries(second)
    redactor = Redactor()
    clean = redactor.redact(log.encode() + b"\n")
    told = "".join(
        base64.b64decode(entry["data"]).decode() for line in clean.splitlines() for entry in json.loads(line)["logs"]
    )
    assert told == "before\nuse [redacted: GitHub token] now\nafter\n"
    assert redactor.replacements == 1


def test_entries_of_different_steps_share_nothing() -> None:
    log = entries("NPM_TOKEN=") + "\n" + entries("ordinary words\n", vertex="b") + "\n" + entries("abcdefgh1\n") + "\n"
    clean = Redactor().redact(log.encode())
    texts = [
        base64.b64decode(entry["data"]).decode() for line in clean.splitlines() for entry in json.loads(line)["logs"]
    ]
    assert texts == ["", "ordinary words\n", "NPM_TOKEN=[redacted: token]\n"]


def test_output_that_comes_letter_by_letter_is_put_together() -> None:
    token = "ghp_" + some(random.Random(3), ALNUM, 36)
    clean = Redactor().redact(entries(*token, "\n", *"dots......", "\n").encode() + b"\n")
    told = "".join(base64.b64decode(entry["data"]).decode() for entry in json.loads(clean)["logs"])
    assert told == "[redacted: GitHub token]\ndots......\n"


def test_output_that_never_ends_its_line_is_put_together_in_parts() -> None:
    clean = Redactor().redact(entries(*"x" * 300).encode() + b"\n")
    assert clean == entries(*"x" * 300).encode() + b"\n"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("at", [4, 17, 39])
def test_a_secret_that_two_messages_of_the_engine_share_is_found(at: int, end: str) -> None:
    token = "ghp_" + some(random.Random(at), ALNUM, 36)
    texts = ["Step 1/2 : RUN x", "\n", f"use {token[:at]}", f"{token[at:]} now\n", "after\n"]
    log = "".join(json.dumps({"stream": text}, separators=(",", ":")) + end for text in texts)
    redactor = Redactor()
    clean = redactor.redact(log.encode()).decode()
    told = "".join(json.loads(line)["stream"] for line in clean.splitlines())
    assert told == "Step 1/2 : RUN x\nuse [redacted: GitHub token] now\nafter\n"
    assert redactor.replacements == 1


def test_data_that_is_no_base64_stays_where_it_is() -> None:
    log = (
        b'{"a":{"data":"not base64!"},"data":"","logs":[{"data":"'
        + base64.b64encode(b"PASSWORD=abcd1234\n")
        + b'"}]}\n'
    )
    clean = Redactor().redact(log)
    document = json.loads(clean)
    assert document["a"] == {"data": "not base64!"}
    assert base64.b64decode(document["logs"][0]["data"]) == b"PASSWORD=[redacted: password]\n"


def test_rawjson_with_nuls_is_read_the_long_way() -> None:
    log = entries("PASSWORD=abcd1234\n").encode() + b"\0\n"
    clean = Redactor().redact(log)
    assert base64.b64decode(json.loads(clean.rstrip(b"\0\n"))["logs"][0]["data"]) == b"PASSWORD=[redacted: password]\n"


def test_a_secret_that_one_entry_holds_alone_stays_in_its_place() -> None:
    log = entries("NPM_TOKEN=abcdefgh1 and", " more\n").encode() + b"\n"
    texts = [base64.b64decode(entry["data"]).decode() for entry in json.loads(Redactor().redact(log))["logs"]]
    assert texts == ["NPM_TOKEN=[redacted: token] and", " more\n"]


def test_a_secret_that_one_message_holds_alone_stays_in_its_place() -> None:
    log = b'{"stream":"use NPM_TOKEN=abcdefgh1 and"}\n{"stream":" more\\n"}\n'
    assert Redactor().redact(log) == log.replace(b"abcdefgh1", b"[redacted: token]")


def test_what_only_looks_like_rawjson_is_redacted_as_text() -> None:
    clean = Redactor().redact(b'{"logs":[{"password":"data":"QUFBQUFBQUFB"}]}\n')
    assert clean == b'{"logs":[{"password":"[redacted: password]":"QUFBQUFBQUFB"}]}\n'
