"""Takes secrets out of logs, texts and names before anything is stored, shown or sent.

A chunk of log is first looked through with a handful of fast literal searches; only the lines that could hold a secret
are looked at closely, so an ordinary log costs little. Three kinds of evidence count: a value that its issuer gave a
recognisable form, a value that the log itself names (`NPM_TOKEN=…`, `Authorization: …`, `user:password@`), and the
blocks of PEM and PGP private keys. JSON lines are searched inside their base64 strings too (BuildKit's rawjson keeps
all output of a step there), and stay valid JSON.

What is replaced becomes `[redacted: <kind>]`; the rest of the line stays. Digests, commit ids, checksums, versions,
`***` and references such as `$NPM_TOKEN` are no secrets.
"""

import binascii
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

LINE_CAP: Final = 1024 * 1024
"""A longer line is looked at in pieces."""
OVERLAP: Final = 128 * 1024
"""How far back from there a good place for the cut is looked for; programs write their output in pieces of 32 KiB."""

_MARK: Final = b"[redacted: "
_KEY_LINES: Final = 400  # a private key of 16,384 bits has 200; a block without an end does not swallow the log
_DECODE_DEPTH: Final = 2  # base64 in JSON in base64


# -- what issuers' values look like ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Form:
    """The form of one kind of secret: replaced is the group `v` where the pattern has one, else the whole match."""

    kind: str
    needles: tuple[bytes, ...]
    """One of them stands in every match, so that most lines are spared the pattern."""
    pattern: re.Pattern[bytes]


def _form(kind: str, needles: str, pattern: bytes) -> Form:
    return Form(kind, tuple(needle.encode() for needle in needles.split()), re.compile(pattern))


# Where a word may begin: not within another, but after a colour code, an escape of JSON, an escape of a URL.
_EDGE: Final = rb"(?:(?<![A-Za-z0-9_])|(?<=[0-9;\[]m)|(?<=\\[nrt])|(?<=%[0-9A-Fa-f]{2}))"

# Left edges are not asked for where the form itself is rare: a token may follow `\n` or a colour code's `m`.
FORMS: Final = (
    _form("GitHub token", "github_pat_", rb"github_pat_[A-Za-z0-9_]{22,255}+"),
    _form("GitHub token", "ghs_", rb"ghs_[A-Za-z0-9_.-]{20,4096}+"),
    _form("GitHub token", "ghp_ gho_ ghu_ ghr_", rb"gh[pour]_[A-Za-z0-9_]{20,255}+"),
    _form(
        "GitLab token",
        "glpat- gloas- gldt- glrt- glrtr- glcbt- glptt- glft- glimt- glagent- glsoat- glffct- glwt-",
        rb"gl(?:pat|oas|dt|rtr?|cbt|ptt|ft|imt|agent|soat|ffct|wt)-[A-Za-z0-9_.=-]{16,512}+",
    ),
    _form("GitLab token", "GR1348941", rb"GR1348941[A-Za-z0-9_-]{16,64}+"),
    _form("Bitbucket token", "ATBB", rb"ATBB[A-Za-z0-9_=-]{24,64}+"),
    _form("Atlassian token", "ATATT3 ATCTT3", rb"AT[AC]TT3[A-Za-z0-9_=-]{60,512}+"),
    _form(
        "Buildkite token", "bkua_ bkaj_ bkat_ bkct_ bkpt_ bkrt_", rb"bk(?:ua|aj|at|ct|pt|rt)_[A-Za-z0-9_.-]{20,512}+"
    ),
    _form("CircleCI token", "CCIPAT_ CCIPRJ_", rb"CCIP(?:AT|RJ)_[A-Za-z0-9_-]{20,128}+"),
    _form("npm token", "npm_", rb"npm_[A-Za-z0-9]{36,64}+"),
    _form("package index token", "pypi-", rb"pypi-[A-Za-z0-9_-]{32,1024}+"),
    _form("Docker Hub token", "dckr_", rb"dckr_[a-z]{2,8}_[A-Za-z0-9_-]{20,128}+"),
    _form(
        "AWS session token",
        "IQoJb3JpZ2lu FwoGZXIvYXdz FQoGZXIvYXdz",
        rb"(?:IQoJb3JpZ2lu|FwoGZXIvYXdz|FQoGZXIvYXdz)(?:[A-Za-z0-9+/=_-]|%2[BbFf]|%3[Dd]){40,4096}+",
    ),
    _form("AWS access key id", "AKIA ASIA ABIA ACCA", rb"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
    _form("Google API key", "AIza", rb"AIza[A-Za-z0-9_-]{35}"),
    _form("Google token", "ya29.", rb"ya29\.[A-Za-z0-9_.-]{20,2048}+"),
    _form("Google token", "GOCSPX-", rb"GOCSPX-[A-Za-z0-9_-]{20,64}+"),
    _form(
        "Azure storage key",
        "AccountKey SharedAccessKey",
        rb"(?:AccountKey|SharedAccessKey)(?:=|%3[Dd])(?P<v>[^\s;\"'\\&]{20,256}+)",
    ),
    _form("Azure secret", "Q~", rb"[A-Za-z0-9_~.-]{3}\dQ~[A-Za-z0-9_~.-]{31,34}"),
    _form("Slack token", "xox", rb"xox[abcdeoprs](?:\.xox[bp])?-[A-Za-z0-9-]{10,512}+"),
    _form("Slack token", "xapp-", rb"xapp-\d-[A-Za-z0-9-]{10,512}+"),
    _form(
        "Slack webhook",
        "hooks.slack",
        rb"hooks\.slack(?:-gov)?\.com(?:/|%2[Ff]|\\/)(?:services|workflows|triggers)(?:/|%2[Ff]|\\/)"
        rb"(?P<v>[A-Za-z0-9/_%\\]{16,256}+)",
    ),
    _form(
        "Discord webhook",
        "webhooks",
        rb"discord(?:app)?\.com(?:/|%2[Ff]|\\/)api(?:(?:/|%2[Ff]|\\/)v\d{1,2})?(?:/|%2[Ff]|\\/)webhooks"
        rb"(?:/|%2[Ff]|\\/)(?P<v>\d{16,20}(?:/|%2[Ff]|\\/)[A-Za-z0-9_-]{40,128}+)",
    ),
    _form(
        "Telegram token", ": %3A %3a", _EDGE + rb"(?:bot)?(?P<v>\d{8,11}(?::|%3[Aa])[A-Za-z0-9_-]{35})(?![A-Za-z0-9_-])"
    ),
    _form("Stripe key", "_live_ _test_", rb"[spr]k_(?:live|test)_[A-Za-z0-9]{10,256}+"),
    _form("webhook secret", "whsec_", rb"whsec_[A-Za-z0-9+/=_-]{20,256}+"),
    _form("Twilio key", "SK", _EDGE + rb"SK[0-9a-f]{32}(?![0-9A-Za-z])"),
    _form("SendGrid key", "SG.", rb"SG\.[A-Za-z0-9_-]{16,64}\.[A-Za-z0-9_-]{16,128}+"),
    _form("Mailgun key", "key-", _EDGE + rb"(?:pub)?key-[0-9a-f]{32}(?![0-9A-Za-z])"),
    _form("Mailgun key", "-", _EDGE + rb"[0-9a-f]{32}-[0-9a-f]{8}-[0-9a-f]{8}(?![0-9A-Za-z-])"),
    _form("Sentry token", "sntry", rb"sntry[sua]_[A-Za-z0-9_=+/-]{20,1024}+"),
    _form("Heroku key", "HRKU-", rb"HRKU-[A-Za-z0-9_-]{20,128}+"),
    _form("DigitalOcean token", "_v1_", rb"do[opr]_v1_[0-9a-f]{32,128}+"),
    _form("Vault token", "hvs. hvb. hvr.", rb"hv[sbr]\.[A-Za-z0-9_-]{20,512}+"),
    _form(
        "Vault token",
        "s. b.",
        rb"(?<![A-Za-z0-9_./-])[sb]\.(?=[A-Za-z]*[0-9])(?=[0-9A-Z]*[a-z])[A-Za-z0-9]{24}(?![A-Za-z0-9_.-])",
    ),
    _form("Datadog key", "dd", _EDGE + rb"dd(?:app|pat)_[A-Za-z0-9]{20,128}+"),
    _form(
        "JWT",
        "eyJ",
        # Six characters back, or a long run of `eyJeyJ` would be tried at each of its letters.
        rb"(?<![A-Za-z0-9_=-]{6})eyJ[A-Za-z0-9_=-]{10,4096}+\.[A-Za-z0-9_=-]{10,16384}+(?:\.[A-Za-z0-9_=-]*+){0,3}",
    ),
    # What the commands themselves say: `curl -u me:…`, `docker login -p …`, `sshpass -p …`, `mysql -p…`, .netrc.
    _form(
        "password",
        "curl",
        rb"curl\b[^\n|;&]{0,512}?[ \t](?:-u|--user|-U|--proxy-user)[ =]{0,2}[\"']?[^\s:\"'=/$]{1,128}:"
        rb"(?P<v>[^\s\"'$]{3,256}+)",
    ),
    _form(
        "password",
        "login",
        _EDGE + rb"login\b[^\n|;&]{0,512}?[ \t]-p[ =]?[\"']?(?P<v>[^\s\"'$<{*-][^\s\"']{2,1024}+)",
    ),
    _form("password", "sshpass", rb"sshpass[ \t]{1,4}-p ?[\"']?(?P<v>[^\s\"'$<{*][^\s\"']{2,256}+)"),
    _form(
        "password",
        "mysql mariadb",
        _EDGE + rb"(?:mysql|mariadb)(?:-?(?:dump|admin|check|import))?\b[^\n|;&]{0,256}?[ \t]-p[\"']?"
        rb"(?P<v>[^\s\"'$<{*][^\s\"']{2,256}+)",
    ),
    _form(
        "password",
        "machine",
        _EDGE + rb"machine[ \t]{1,8}\S{1,256}[ \t]{1,8}login[ \t]{1,8}\S{1,256}[ \t]{1,8}password[ \t]{1,8}"
        rb"(?P<v>[^\s$<*]\S{2,1024}+)",
    ),
    _form("password", "wd=", rb"(?:;|[\"'])[ \t]?[Pp][Ww][Dd]=(?P<v>[^;\s\"'/$.][^;\s\"']{2,256}+)"),
    _form(
        "secret",
        "secret",
        rb"\bsecret set [A-Za-z0-9_]{1,128} (?:--body|-b)[ =][\"']?(?P<v>[^\s\"'$<{*][^\s\"']{2,4096}+)",
    ),
    _form(
        "URL signature",
        "ignature",
        _EDGE
        + rb"(?:X-(?:Amz|Goog|Oss)-)?Signature(?:=|%3[Dd])(?P<v>(?:[A-Za-z0-9+/=_~.-]|%[2-3][0-9A-Fa-f]){16,1024}+)",
    ),
    _form(
        "URL signature",
        "sig",
        rb"(?:[?&;\s\"']|^|u0026|%26|%3[Ff])sig(?:=|%3[Dd])(?P<v>(?:[A-Za-z0-9+/=_~.-]|%[2-3][0-9A-Fa-f]|%25[2-3][0-9A-Fa-f]){16,1024}+)",
    ),
)

_NEEDLES: Final = tuple((needle, form) for form in FORMS for needle in form.needles)

_BASIC_AUTH: Final = re.compile(
    rb":(?://|\\/\\/)(?P<user>[^\s/:@\"'<>\\]{0,256}+)"
    # A password may hold an unescaped `@` (the last one counts) or an unescaped `/`.
    rb"(?::(?P<v>[^\s/\"'<>\\]{0,512}(?=@)|[^\s@\"'<>\\]{0,512}+(?=@)))?@"
)
_BASIC_AUTH_ENCODED: Final = re.compile(
    rb"%3[Aa]%2[Ff]%2[Ff](?P<user>(?:[^\s%&\"'<>\\]|%(?!3[Aa]|40|2[Ff])){0,256}+)"
    rb"(?:%3[Aa](?P<v>(?:[^\s%&\"'<>\\]|%(?!40|2[Ff])){0,512}+))?%40"
)
# `https://token@host`: a user without a password, long enough to be no user.
_LONE_USER: Final = re.compile(rb"[A-Za-z0-9_.=~-]{20,}+")


# -- what the log itself names -----------------------------------------------------------------------------------------

_COLOUR: Final = rb"(?:(?:\x1b|\\u001b|\\x1b|\\033)\[[0-9;]{0,16}m)"

# Only what follows the word in a name is matched here; what stands before it is looked up backwards from the match.
# Reads the line in lower case, which is three times as fast as a pattern that ignores case.
_NAMED: Final = re.compile(
    rb"(?P<word>secret|token|password|passwd|passphrase|api[_-]?key|private[_-]?key|credential|access[_-]?key"
    rb"|account[_-]?key|storage[_-]?key|master[_-]?key|encryption[_-]?key|signing[_-]?key|app[_-]?key"
    rb"|authorization|_auth|\bauth|_pass)(?P<rest>[a-z0-9_.-]{0,64}+)"
    + _COLOUR
    + rb"{0,3}(?P<sep>%3d|[ \t]{0,2}[?:+]?=(?![=>~])[ \t]{0,2}"
    rb"|(?P<quote>\\{0,3}[\"'])[ \t]{0,2}(?::|=>|=)[ \t]{0,2}|[ \t]{1,2}=>[ \t]{0,2}(?=[\"'])"
    rb"|>(?=[^<>\s]{1,1024}</)|:[ \t]{0,4}|[ \t]{1,4})" + _COLOUR + rb"{0,3}"
)
_KINDS: Final = {
    b"secret": "secret",
    b"token": "token",
    b"pass": "password",
    b"_pass": "password",
    b"api": "API key",
    b"priv": "private key",
    b"cred": "credential",
    b"authorization": "authorization",
    b"auth": "registry auth",
    b"_auth": "registry auth",
}
_NAME_CHARACTERS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"
_COLOUR_BEGUN: Final = re.compile(rb"\x1b\[[0-9;]{0,16}\Z")
_COLOUR_ENDED: Final = re.compile(rb"[0-9]{0,3}m")
_ENV_BEFORE: Final = re.compile(_EDGE + rb"(?:ENV|env|setx|SETX)[ \t]{1,8}\Z")
_FLAG: Final = re.compile(
    rb"--?(?:[a-z0-9]{1,20}-){0,3}(?:password|passwd|passphrase|token|api-?key|secret-key|client-secret|access-key|secret-access-key"
    rb"|account-key|private-key)\Z",
    re.IGNORECASE,
)
_QUOTE: Final = re.compile(rb"\\{0,3}[\"']")
# A word of a shell, a URL or a list, without the escapes of JSON that end it.
_VALUE: Final = re.compile(
    rb"(?:\[redacted: [A-Za-z ]{1,40}\]|[^\s\"'`\\\x00-\x1f\x7f]|\\(?!\\{0,2}[\"']|[nrt]|u00(?:0|1|22|27)|x1b|033))++"
)
_ENCODED_VALUE: Final = re.compile(rb"(?:[^\s\"'`\\&%]|%(?!26|20|0[AaDd]|2[27]))++")
_QUOTED_ON: Final = re.compile(
    rb"(?<!\\)[\"'](?=[^\s,:}\])\"'\\])(?:[^\s\"'`\\\x00-\x1f\x7f]|\\(?!\\{0,2}[\"']|[nrt]|u00(?:0|1|22|27)|x1b|033))++"
)
_WORDS_TO_END: Final = re.compile(rb"(?:[^\"'`\\\x00-\x08\x0a-\x1f\x7f]|\\(?!\\{0,2}[\"']|[nr]|u00(?:0|1|22)))++")
# Masks, references, words of a schema.
_NO_SECRET: Final = re.compile(
    rb"(?:\[redacted: [A-Za-z ]{1,40}\]|\*++|[xX.-]{3,}|(?:\xe2\x80\xa2)+"
    rb"|\$\{.*|\$\(.*|`.*|(?-i:\$[A-Z_][A-Z0-9_]*|\$[a-z_]+)|\$\$?|%[A-Za-z_]\w*%|\$?\{\{.*|\$env:.*|<[^<>]*>"
    rb"|\[(?:MASKED|FILTERED|REDACTED|hidden)\]|REDACTED|MASKED|true|false|yes|no|null|none|nil|undefined|optional"
    rb"|required|empty|(?:id|type|src|env)=.*|[,;:.)}\]|&]*+)[,;.)}\]]*+",
    re.IGNORECASE,
)
# What was replaced or masked already, and is not part of a longer value.
_DONE: Final = re.compile(rb"(?:\[redacted: [A-Za-z ]{1,40}\]|\*{3,})(?=[^A-Za-z0-9_+/=.~-]|\Z)")
_TAIL: Final = re.compile(rb"(?:[\s;,\"'})\]]|\\[nrt]|(?:\x1b|\\u001[bB])\[[0-9;]{0,16}m)*+\Z")
_PATH_NAME: Final = re.compile(rb"(?:file|path|dir|folder)\Z", re.IGNORECASE)
_NUMBER_NAME: Final = re.compile(
    rb"(?:s|length|size|ttl|count|limit|version|port|timeout|expiry|seconds|days)\Z", re.IGNORECASE
)
_NAME_ENDS: Final = re.compile(
    rb"(?:secret(?:[_-]?key)?|token|password|passwd|passphrase|api[_-]?key|private[_-]?key(?:[_-]?id)?|credentials?|access[_-]?key|account[_-]?key"
    rb"|storage[_-]?key|master[_-]?key|encryption[_-]?key|signing[_-]?key|app[_-]?key|authorization|auth|_pass)"
    rb"(?:_?(?:\d{1,3}|b64|base64|base|prod|dev|test|staging))?\Z",
    re.IGNORECASE,
)
_PASSWORD_NAME: Final = re.compile(rb"(?:password|passwd|secret)\Z", re.IGNORECASE)
_HEADER_SCHEME: Final = re.compile(
    rb"(?:basic|bearer|token|digest|negotiate|apikey|aws4-hmac-sha256|sharedkey|jwt)[ \t]{1,4}", re.IGNORECASE
)
_TOKEN_LIKE: Final = re.compile(rb"(?=[^\s]*[0-9])(?=[^\s]*[A-Za-z])[^\s(){}\[\]<>]{8,}")
_AWS_SECRET: Final = re.compile(
    rb"(?<![A-Za-z0-9+/=])(?=[A-Za-z+/]*[0-9])(?=[A-Z0-9+/]*[a-z])(?=[a-z0-9+/]*[A-Z])[A-Za-z0-9+/]{40}(?![A-Za-z0-9+/=])"
)

# -- private keys ------------------------------------------------------------------------------------------------------

_KEY_BEGIN: Final = re.compile(rb"-----BEGIN (?:[A-Z0-9]{1,20} ){0,4}PRIVATE KEY(?: BLOCK)?-----")
_KEY_END: Final = re.compile(rb"-----END (?:[A-Z0-9]{1,20} ){0,4}PRIVATE KEY(?: BLOCK)?-----")
_KEY_REST: Final = re.compile(rb"(?:\\{1,4}[nr]|[A-Za-z0-9+/=:,. \t-])*+")
_KEY_LINE: Final = re.compile(
    rb"(?P<v>[A-Za-z0-9+/]{1,128}={0,2}|=[A-Za-z0-9+/]{4}"
    rb"|(?:Proc-Type|DEK-Info|Version|Comment|Hash|Charset|MessageID): [^\"\\\x1b\n]{0,200}+)"
    rb"(?:(?:\\[nr]|\x1b\[[0-9;]{0,16}m|[\"'}\],\s])*+)\Z"
)
_KEY_PIECE: Final = re.compile(
    rb"(?<![A-Za-z0-9+/=:])(?=[^\s]{0,40}[G-Zg-z+/])[A-Za-z0-9+/]{40,128}={0,2}(?![A-Za-z0-9+/=])"
)
_KEY_BASE64: Final = re.compile(rb"LS0tLS1CRUdJTi[A-Za-z0-9+/_-]{16,16384}+={0,2}")

# -- what makes a line worth a look ------------------------------------------------------------------------------------

_RUN: Final = 20
"""Every form but the named ones holds so many letters, digits, `_` and `-` in a row, not all of them hexadecimal."""
_RUN_CLASS: Final = bytes(
    ord("a") if bytes([code]) in _NAME_CHARACTERS.replace(b".", b"") else ord(" ") for code in range(256)
)
_LONG: Final = b"a" * _RUN
_PLAIN_FORMS: Final = tuple(
    b"AKIA ASIA ABIA ACCA AIza ATBB ATATT3 ATCTT3 SK GR1348941 LS0tLS1CRUdJTi "
    b"IQoJb3JpZ2lu FwoGZXIvYXdz FQoGZXIvYXdz".split()
)
_SLASHED_FORMS: Final = (b"IQoJb3JpZ2lu", b"oGZXIvYXdz")
"""Session tokens of AWS are base64, whose slashes may leave no long run."""
_HEXADECIMAL: Final = b"0123456789abcdefABCDEF"
_DULL: Final = b"abcdefghijklmnopqrstuvwxyz_-"  # a run of these alone is a name of ours, not a key
# One of these stands in or just before the run, or it is an identifier, a digest, the name of a package.
_FORM_MARKS: Final = re.compile(
    rb"gh[pousr]_|github_pat_|gl[a-z]{2,5}-|GR1348941|AT(?:BB|ATT3|CTT3)|bk[a-z]{2}_|CCIP|npm_|pypi-|dckr_|A[KSBC][IC]A"
    rb"|AIza|ya29|GOCSPX|Q~|xox|xapp-|[0-9](?::|%3[Aa])|_live_|_test_|whsec_|SK|SG\."
    rb"|key-|sntry|HRKU|_v1_|hv[sbr]\.|[sb]\.|dd(?:app|pat)|eyJ|LS0tLS1C|[0-9a-f]{32}-[0-9a-f]{8}-"
)


def _naming(word: bytes, more: bytes = b"") -> re.Pattern[bytes]:
    """Return what finds a telling word that may name a value: with a separator, or as an option or ENV with a space.

    It begins with a literal, which `re` finds at gigabytes per second. It reads the chunk in lower case.
    """
    return re.compile(
        word + more + rb"(?:[a-z0-9_.-]{0,64}+[\"'\\]{0,4}[ \t]{0,3}(?:[?:+]?[=:]|%3d|\x1b|\\|>[^<>\s]{1,1024}</)"
        rb"|(?:(?<=[_-]"
        + word
        + rb")|(?<=env "
        + word
        + rb")|(?<=ssh"
        + word
        + rb")|(?= set )(?<=secret))[a-z0-9_.-]{0,64}+[ \t])"
    )


_NAME_PATTERNS: Final = (
    _naming(b"token"),
    _naming(b"secret"),
    _naming(b"credential", b"s?"),
    _naming(b"key"),
    _naming(b"pass"),
    re.compile(rb"auth(?:orization)?(?:[\"'\\=:\x1b]|%3d|[ \t]{1,2}=)"),
    re.compile(rb"sig(?:nature)?(?:=|%3d)"),
    re.compile(rb":(?://|\\/\\/)[^\s/]{0,768}?@"),
    re.compile(rb"%3a%2f%2f[^\s/]{0,768}?%40"),
    re.compile(rb"curl [^\n]{0,512}?-(?:u|-user|-proxy-user)[ =]"),
    re.compile(rb"login [^\n]{0,512}?(?:-p[ =]|password[ \t])"),
    re.compile(rb"mysql[a-z-]{0,8} [^\n]{0,256}?-p"),
    re.compile(rb"pwd="),
    re.compile(rb"setx "),
    re.compile(rb"env [a-z0-9_]{0,64}?(?:token|secret|passw|key|credential)"),
    re.compile(rb"name[\"']?: ?[\"']?[a-z0-9_.-]{0,64}?(?:token|secret|passw|key|credential)"),
)
_NAME_WORDS: Final = (b"token", b"secret", b"pass", b"key", b"auth", b"credential")
_DATA: Final = b'"data":"'
"""What stands before the output in an entry of rawjson."""
_HOLE: Final = b'"\0":'
_SEAM_CAP: Final = 64
# A name at the end of a line, and its value in the next: `"auth":`, and a manifest's `- name: NPM_TOKEN`, `value: …`.
_AWAITING: Final = (
    (
        re.compile(
            rb"[\"'](?:auth|[a-z0-9_.-]{0,64}(?:secret|token|password|passwd|api_?key))[\"'] ?:\Z", re.IGNORECASE
        ),
        re.compile(rb"[\"'](?P<v>[^\"'\s]{4,16384})[\"'],?\s{0,8}\Z"),
    ),
    (
        re.compile(
            rb"\bname[\"']?: ?[\"']?[a-z0-9_.-]{0,64}(?:secret|token|password|passwd|api_?key|private_?key|credential)"
            rb"[a-z0-9_.-]{0,64}[\"']?,?\Z",
            re.IGNORECASE,
        ),
        re.compile(rb"\bvalue[\"']?: ?[\"']?(?P<v>[^\"'\s]{4,16384})[\"']?,?\s{0,8}\Z"),
    ),
)
_STREAM: Final = b'{"stream":"'
# Between two messages of the Engine API, of which the first does not end a line.
_MESSAGES: Final = re.compile(rb'"\}\r?\n\{"stream":"(?!\\n"\})')
_JSON_STRING: Final = re.compile(rb"\"([A-Za-z0-9+/]{14,}+={0,2})\"")


class Redactor:
    """Takes the secrets out of one log, chunk by chunk.

    A chunk is whole lines (only the last one may lack its line end), because a secret never spans lines but for a
    private key, whose block may span chunks. `redact_chunks` cuts a log that comes in other pieces.
    """

    def __init__(self, *, _depth: int = 0) -> None:
        self.replacements = 0
        """How many values were replaced so far; a private key counts once per line."""
        self._block: _KeyBlock | None = None
        self._awaited: re.Pattern[bytes] | None = None
        """What the next line holds if it is a secret: this one ended with the name of one."""
        self._inner: Redactor | None = None
        self._depth = _depth

    def redact(self, chunk: bytes) -> bytes:
        """Return the lines without their secrets."""
        if self._block is not None or b"PRIVATE KEY" in chunk:
            chunk = b"".join(self._redact_key(line) for line in chunk.splitlines(keepends=True))
        if self._depth == 0 and _STREAM in chunk:
            chunk = self._close_seams(chunk)
        if self._awaited is not None:
            chunk = self._redact_awaited(chunk)
        if b'"' not in chunk or self._depth >= _DECODE_DEPTH:
            return self._redact_lines(chunk, ())
        if _DATA in chunk and b"\0" not in chunk:
            clean = self._redact_entries(chunk)
            if clean is not None:
                return clean
        return self._redact_rest(chunk)

    def _redact_rest(self, chunk: bytes) -> bytes:
        strings = _packed_strings(chunk)
        clean = self._redact_strings(chunk, strings)
        if clean is not chunk:
            strings = _packed_strings(clean)
        return self._redact_lines(clean, [string.start for string in strings])

    def needs_all(self, chunk: bytes) -> bool:
        """Tell whether every line must be looked at: a private key, or JSON within."""
        return self._block is not None or b"PRIVATE KEY" in chunk or b'":"' in chunk

    def redact_chunks(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Redact a log that comes in pieces cut anywhere; what is yielded ends at line ends.

        A line longer than LINE_CAP is cut, where it can be between words.
        """
        rest = b""
        for chunk in (whole[at : at + LINE_CAP] for whole in chunks for at in range(0, len(whole), LINE_CAP)):
            cut = chunk.rfind(b"\n") + 1
            if cut:
                yield self.redact(rest + chunk[:cut])
                rest = chunk[cut:]
            else:
                rest += chunk
            while len(rest) > LINE_CAP:
                # Between the members of a JSON object, so that no string of base64 is torn; in other lines at a space.
                seams = [rest.rfind(seam, LINE_CAP - OVERLAP, LINE_CAP) for seam in (b',"', b" ")]
                cut = max(seams) if max(seams) >= 0 else LINE_CAP
                yield self.redact(rest[:cut])
                rest = rest[cut:]
        if rest:
            yield self.redact(rest)

    def _mark(self, kind: str) -> bytes:
        self.replacements += 1
        return b"%s%s]" % (_MARK, kind.encode())

    # -- lines --

    def _redact_lines(self, chunk: bytes, packed: Sequence[int]) -> bytes:
        out: list[bytes] = []
        done = 0
        for at in suspects(chunk, packed):
            if at < done:
                continue
            start = chunk.rfind(b"\n", 0, at) + 1
            end = chunk.find(b"\n", at)
            end = len(chunk) if end < 0 else end
            line = chunk[start:end]
            out += (chunk[done:start], self._redact_line(line))
            done = end
            ending = line[-256:].rstrip()
            awaited = next((pattern for name, pattern in _AWAITING if name.search(ending)), None)
            if awaited is not None and end + 1 < len(chunk):
                below = chunk.find(b"\n", end + 1)
                done = len(chunk) if below < 0 else below
                self._awaited = awaited
                out += (b"\n", self._redact_awaited(chunk[end + 1 : done]))
            elif awaited is not None and end < len(chunk):
                self._awaited = awaited
        if not out:
            return chunk
        out.append(chunk[done:])
        return b"".join(out)

    def _redact_awaited(self, chunk: bytes) -> bytes:
        """Redact the value whose name the line above ended with, in the first line of a chunk."""
        awaited, self._awaited = self._awaited, None
        line, end, rest = chunk.partition(b"\n")
        value = awaited.search(line) if awaited is not None else None
        if value is None or _NO_SECRET.fullmatch(value["v"]):
            return (self._redact_line(line) if suspects(line) else line) + end + rest
        return line[: value.start("v")] + self._mark("secret") + line[value.end("v") :] + end + rest

    def _redact_line(self, line: bytes) -> bytes:
        if b"LS0tLS1CRUdJTi" in line:
            line = _KEY_BASE64.sub(self._replace_packed_key, line)
        with_aws_key = False
        for form in [form for needle, form in _NEEDLES if needle in line]:
            found = self.replacements
            line = form.pattern.sub(self._replacer(form.kind), line)
            with_aws_key |= self.replacements > found and form.kind == "AWS access key id"
        if b"@" in line:
            line = _BASIC_AUTH.sub(self._replace_basic_auth, line)
        if b"%40" in line:
            line = _BASIC_AUTH_ENCODED.sub(self._replace_basic_auth, line)
        line = self._redact_named(line)
        if with_aws_key:
            line = _AWS_SECRET.sub(lambda _: self._mark("AWS secret key"), line)
        return line

    def _replacer(self, kind: str) -> Callable[[re.Match[bytes]], bytes]:
        def replace(match: re.Match[bytes]) -> bytes:
            if "v" not in match.re.groupindex:
                return self._mark(kind)
            return _around(match, "v", self._mark(kind))

        return replace

    def _replace_packed_key(self, match: re.Match[bytes]) -> bytes:
        head = match[0][:96]
        head = head[: len(head) // 4 * 4].replace(b"-", b"+").replace(b"_", b"/")
        return self._mark("private key") if b"PRIVATE" in binascii.a2b_base64(head) else match[0]

    def _replace_basic_auth(self, match: re.Match[bytes]) -> bytes:
        user, password = match["user"], match["v"]
        if not password:
            if _LONE_USER.fullmatch(user):
                return _around(match, "user", self._mark("basic auth"))
            return match[0]
        port, slash, _ = password.partition(b"/")
        if _NO_SECRET.fullmatch(password) or (slash and port.isdigit()):
            return match[0]
        return _around(match, "v", self._mark("basic auth"))

    def _redact_named(self, line: bytes) -> bytes:
        out: list[bytes] = []
        done = at = 0
        lowered = line.lower()
        if not any(word in lowered for word in _NAME_WORDS):
            return line
        while match := _NAMED.search(lowered, at):
            value = _value_of(line, match)
            if value is None:
                at = match.end("word")
                continue
            start, end, accepted = value
            at = max(end, match.end("word"))
            if accepted:
                out += (line[done:start], self._mark(_kind_of(match["word"])))
                done = end
        if not out:
            return line
        out.append(line[done:])
        return b"".join(out)

    # -- private keys --

    def _redact_key(self, line: bytes) -> bytes:
        """Replace what a line holds of a private key; remembers whether the key goes on."""
        out: list[bytes] = []
        at = 0
        if self._block is not None:
            if end := _KEY_END.search(line):
                out += (line[: self._block.body(line)], self._mark("private key"))
                at = end.end()
                self._block = None
            else:
                return self._redact_key_line(line, self._block)
        while begin := _KEY_BEGIN.search(line, at):
            out += (line[at : begin.start()], self._mark("private key"))
            if end := _KEY_END.search(line, begin.end()):
                at = end.end()
                continue
            rest = _KEY_REST.match(line, begin.end())
            at = rest.end() if rest else begin.end()
            self._block = _KeyBlock(line[: begin.start()])
            break
        return b"".join([*out, line[at:]])

    def _redact_key_line(self, line: bytes, block: "_KeyBlock") -> bytes:
        block.lines += 1
        if block.lines > _KEY_LINES:
            self._block = None
            return line
        start = block.body(line)
        if match := _KEY_LINE.match(line, start):
            return line[:start] + self._mark("private key") + line[match.end("v") :]
        return _KEY_PIECE.sub(lambda _: self._mark("private key"), line)

    # -- base64 in JSON --

    def _redact_entries(self, chunk: bytes) -> bytes | None:
        """Redact rawjson: the output in its `data` strings by itself, what stands around it as one short text.

        None where that text would no longer fall apart at the same places.
        """
        packed: list[bytes] = []
        texts: list[bytes] = []
        first, *parts = chunk.split(_DATA)
        around = [first]
        for part in parts:
            end = part.find(b'"')
            text = _unpack(part[:end]) if end > 0 else None
            if text is None:
                around[-1] += _DATA + part
                continue
            packed.append(part[:end])
            texts.append(text)
            around.append(part[end:])
        before = self.replacements
        rest = self._redact_rest(_HOLE.join(around)).split(_HOLE)
        if len(rest) != len(around):
            self.replacements = before
            return None
        moved = self._close_entries(around, texts)
        for place, text in self._redact_texts(texts):
            moved[place] = text
        for place, text in moved.items():
            packed[place] = binascii.b2a_base64(text, newline=False)
        out = [rest[0]]
        for string, around_it in zip(packed, rest[1:], strict=True):
            out += (_DATA, string, around_it)
        return b"".join(out)

    def _close_entries(self, around: Sequence[bytes], texts: list[bytes]) -> dict[int, bytes]:
        """Find secrets that two or more entries of one stream share; the last of them takes the whole line.

        A program's output comes in the pieces in which it was read. Returns the texts that changed.
        """
        lines: dict[bytes, list[int]] = {}
        seams: list[list[int]] = []
        for place, text in enumerate(texts):
            if not lines and text.endswith(b"\n"):
                continue
            head = around[place]
            stream = head[head.rfind(b"{") :]
            before = lines.pop(stream, [])
            if before and b"\n" in text:
                seams.append([*before, place])
            if not text.endswith(b"\n"):
                lines[stream] = [*before, place] if before and b"\n" not in text else [place]
                if len(lines[stream]) > _SEAM_CAP:
                    seams.append(lines.pop(stream))
        seams += [places for places in lines.values() if len(places) > 1]
        joined = [[*(texts[place].rpartition(b"\n")[2] for place in seam[:-1])] for seam in seams]
        whole = [
            b"".join(tails) + texts[seam[-1]].partition(b"\n")[0] for tails, seam in zip(joined, seams, strict=True)
        ]
        ends = list(accumulate(len(line) + 1 for line in whole))
        changed: dict[int, bytes] = {}
        for number in sorted({bisect_right(ends, at) for at in suspects(b"\n".join(whole))}):
            *early, last = seams[number]
            tails, (_, end, more) = joined[number], texts[last].partition(b"\n")
            probe = Redactor(_depth=_DECODE_DEPTH)
            clean = probe.redact(whole[number])
            apart = [Redactor(_depth=_DECODE_DEPTH).redact(part) for part in (*tails, texts[last].partition(b"\n")[0])]
            if clean == b"".join(apart):
                continue
            for place, tail in zip(early, tails, strict=True):
                texts[place] = changed[place] = texts[place][: len(texts[place]) - len(tail)]
            texts[last] = changed[last] = clean + end + more
            self.replacements += probe.replacements
        return changed

    def _close_seams(self, chunk: bytes) -> bytes:
        """Find secrets that two messages of the engine share: a command's output comes in the pieces it wrote."""
        seams: list[tuple[int, re.Match[bytes], int]] = []
        whole: list[bytes] = []
        for seam in _MESSAGES.finditer(chunk):
            if chunk.endswith(b"\\n", 0, seam.start()):
                continue
            start = chunk.rfind(b"\n", 0, seam.start()) + 1
            end = chunk.find(b'"}', seam.end())
            if chunk.startswith(_STREAM, start) and 0 <= end - start <= LINE_CAP // 16:
                start += len(_STREAM)
                seams.append((start, seam, end))
                whole.append(chunk[start : seam.start()] + chunk[seam.end() : end])
        ends = list(accumulate(len(line) + 1 for line in whole))
        out: list[bytes] = []
        done = 0
        for number in sorted({bisect_right(ends, at) for at in suspects(b"\n".join(whole))}):
            start, seam, end = seams[number]
            probe = Redactor(_depth=_DECODE_DEPTH)
            clean = probe.redact(whole[number])
            apart = [chunk[start : seam.start()], chunk[seam.end() : end]]
            if start >= done and clean != b"".join(Redactor(_depth=_DECODE_DEPTH).redact(part) for part in apart):
                self.replacements += probe.replacements
                out += (chunk[done:start], seam[0], clean)
                done = end
        out.append(chunk[done:])
        return b"".join(out) if len(out) > 1 else chunk

    def _redact_strings(self, chunk: bytes, strings: Sequence["_Packed"]) -> bytes:
        """Look into the base64 strings of JSON lines: BuildKit keeps warnings and traces in them."""
        out: list[bytes] = []
        done = 0
        for place, clean in self._redact_texts([string.text for string in strings]):
            string = strings[place]
            out += (chunk[done : string.start], b'"%s"' % binascii.b2a_base64(clean, newline=False))
            done = string.end
        if not out:
            return chunk
        out.append(chunk[done:])
        return b"".join(out)

    def _redact_texts(self, texts: Sequence[bytes]) -> list[tuple[int, bytes]]:
        """Return which of some unpacked texts hold secrets, and the texts without them."""
        if self._inner is None:
            if not texts:
                return []
            self._inner = Redactor(_depth=self._depth + 1)
        inner = self._inner
        ends = list(accumulate(len(text) + 1 for text in texts))
        together = b"\n".join(texts)
        if inner.needs_all(together):
            wanted = list(range(len(texts)))
        else:
            wanted = sorted({bisect_right(ends, at) for at in suspects(together)})
        before = inner.replacements
        out: list[tuple[int, bytes]] = []
        for place in wanted:
            text = texts[place]
            clean = inner.redact(text) if _is_text(text) else _redact_message(text, inner)
            if clean != text:
                out.append((place, clean))
        self.replacements += inner.replacements - before
        return out


def redact_text(text: str) -> str:
    """Return a text without its secrets: a branch, a job's name, a parameter, a sentence of an error."""
    return Redactor().redact(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")


def suspects(chunk: bytes, packed: Sequence[int] = ()) -> list[int]:
    """Return, in order, positions within the lines of a chunk that could hold a secret.

    `packed` are the starts of base64 strings, in which a long run of letters means nothing.
    """
    found = _long_runs(chunk, packed)
    for needle in _SLASHED_FORMS:
        at = chunk.find(needle)
        while at >= 0:
            found.append(at)
            at = chunk.find(needle, at + len(needle))
    lowered = chunk.lower()
    for pattern in _NAME_PATTERNS:
        found += [match.start() for match in pattern.finditer(lowered)]
    found.sort()
    return found


def _long_runs(chunk: bytes, packed: Sequence[int]) -> list[int]:
    """Return the positions of words that are too long and too mixed to be words."""
    classes = chunk.translate(_RUN_CLASS)
    found = []
    at = classes.find(_LONG)
    while at >= 0:
        end = classes.find(b" ", at + _RUN)
        end = len(classes) if end < 0 else end
        if chunk.startswith(b"sha256:", max(0, at - 7)) and end - at == 64:
            at = classes.find(_LONG, end)  # most long words are digests
            continue
        place = bisect_right(packed, at) - 1 if packed else -1
        if place >= 0 and chunk.find(b'"', packed[place] + 1) >= end:
            # Within a base64 string: only what consists of its letters, and stands at its beginning, can be a token.
            if packed[place] == at - 1 and chunk.startswith(_PLAIN_FORMS, at):
                found.append(at)
            end = max(end, chunk.find(b'"', at))
        else:
            word = chunk[at:end]
            if (
                word.translate(None, _HEXADECIMAL)
                and word.translate(None, _DULL)
                and (
                    _FORM_MARKS.search(chunk, max(0, at - 8), end + 1) or chunk.find(b"hook", max(0, at - 96), at) >= 0
                )
            ):
                found.append(at)
        at = classes.find(_LONG, end)
    return found


@dataclass(frozen=True, slots=True)
class _Packed:
    """A base64 string of a JSON line, with its quotes, and what it holds."""

    start: int
    end: int
    text: bytes


def _packed_strings(chunk: bytes) -> list[_Packed]:
    return [
        _Packed(match.start(), match.end(), text)
        for match in _JSON_STRING.finditer(chunk)
        if (text := _unpack(match[1])) is not None
    ]


# -- named values ------------------------------------------------------------------------------------------------------


def _kind_of(word: bytes) -> str:
    word = word.lower()
    return next((kind for start, kind in _KINDS.items() if word.startswith(start)), "key")


def _value_of(line: bytes, match: re.Match[bytes]) -> tuple[int, int, bool] | None:
    """Find the value behind a telling name: where it stands, and whether it is a secret; None where there is none."""
    head = line[max(0, match.start() - 128) : match.start()]
    stem = head.rstrip(_NAME_CHARACTERS)
    if _COLOUR_BEGUN.search(stem) and (colour := _COLOUR_ENDED.match(head, len(stem))):
        stem = head[: colour.end()]
    name = head[len(stem) :] + line[match.start("word") : match.end("rest")]
    separator = match["sep"].strip()
    if done := _DONE.match(line, match.end()):
        return done.start(), done.end(), False
    if match["word"].lower() == b"authorization":
        return _header_value(line, match)
    if match["quote"] or separator == b"=>":
        return _quoted_key_value(line, match.end(), name)
    if separator == b">":
        end = line.find(b"<", match.end())
        named = _NAME_ENDS.search(name) is not None and not line[match.start() - len(name) : match.start()].startswith(
            b"/"
        )
        return match.end(), end, named and not _NO_SECRET.fullmatch(line, match.end(), end)
    if separator in (b"%3D", b"%3d"):
        return _encoded_value(line, match.end())
    if separator.endswith(b"="):
        return _assigned_value(line, match, name, stem)
    if separator == b":":
        return _yaml_value(line, match, name)
    return _spaced_value(line, match.end(), name, stem)


def _header_value(line: bytes, match: re.Match[bytes]) -> tuple[int, int, bool] | None:
    """`Authorization: Bearer …`, also quoted, also as a JSON key."""
    if match["rest"] or not match["sep"].strip():
        return None
    start = match.end()
    quote = _QUOTE.match(line, start)
    start = quote.end() if quote else start
    scheme = _HEADER_SCHEME.match(line, start)
    start = scheme.end() if scheme else start
    parts = scheme is not None and scheme[0][:3].lower() in (b"dig", b"aws")
    value = (_WORDS_TO_END if parts else _VALUE).match(line, start)
    if value is None:
        return None
    end = value.end()
    if parts and b"\\" not in line[end : end + 1] and not line.lstrip().startswith(b"{"):
        end = len(line.rstrip())  # Digest quotes its parts
    accepted = not _NO_SECRET.fullmatch(line, start, end) and (scheme is not None or end - start >= 12)
    return start, end, accepted


def _quoted_key_value(line: bytes, start: int, name: bytes) -> tuple[int, int, bool] | None:
    """`"password": "…"`: only names that end in a telling word, only strings."""
    if not _NAME_ENDS.search(name):
        return None
    span = _quoted(line, start)
    if span is None:
        return None
    value = line[span[0] : span[1]]
    accepted = not _NO_SECRET.fullmatch(value)
    if name.lower() == b"auth":
        accepted = accepted and (b":" in (_unpack(value) or b"") or len(value) >= 20)
    return (*span, accepted)


def _encoded_value(line: bytes, start: int) -> tuple[int, int, bool] | None:
    value = _ENCODED_VALUE.match(line, start)
    if value is None:
        return None
    return start, value.end(), not _NO_SECRET.fullmatch(value[0])


def _assigned_value(line: bytes, match: re.Match[bytes], name: bytes, stem: bytes) -> tuple[int, int, bool] | None:
    """`NAME=value` of a shell, an ENV, a query, a list of options; `name = value` of a settings file."""
    start = match.end()
    span = _quoted(line, start)
    is_spaced = match["sep"].endswith((b" ", b"\t")) or match["sep"][:1] in b" \t"
    if span is None:
        word = _VALUE.match(line, start)
        if word is None:
            return None
        end = word.end()
        if stem[-1:] not in (b'"', b"'"):
            # A quote within a word belongs to it, in a shell as in a password.
            for _ in range(8):
                if not (more := _QUOTED_ON.match(line, end)):
                    break
                end = more.end()
        span = (start, start + _word_end(line[start:end], stem))
        if not is_spaced and stem[-1:] in (b'"', b"'") and not stem.rstrip(b"\"'\\").endswith(b"-c "):
            # `"NAME=a value with spaces"`
            closing = line.find(stem[-1:], start, start + 4096)
            if closing >= 0:
                span = (start, closing - (line[closing - 1 : closing] == b"\\"))
        looks_so = _TOKEN_LIKE.fullmatch(line[span[0] : span[1]]) or (name.isupper() and b"_" in name)
        if is_spaced and not (looks_so and _TAIL.match(line, span[1])):
            return None
    value = line[span[0] : span[1]]
    if _NO_SECRET.fullmatch(value):
        return (*span, False)
    if _PATH_NAME.search(name) and value.startswith((b"/", b".", b"~")):
        return (*span, False)
    if value.isdigit() and _NUMBER_NAME.search(match["rest"]):
        return (*span, False)
    if match["word"].lower() == b"auth" and not match["rest"] and len(value) < 20:
        return (*span, False)
    return (*span, True)


def _word_end(word: bytes, stem: bytes) -> int:
    """Cut what belongs to the shell, the URL or the list around a value."""
    ends = [at for mark in (b"&&", b"||", b";;") if (at := word.find(mark)) > 0]
    if stem.endswith((b"?", b"&", b"u0026", b"&amp;")):
        ends += [at for mark in (b"&", b"#", b"\\u0026") if (at := word.find(mark)) >= 0]
    if stem.endswith(b","):
        ends += [at for mark in (b",",) if (at := word.find(mark)) >= 0]
    if more := re.search(rb",[A-Za-z_][A-Za-z0-9_.-]{0,64}=", word):
        ends.append(more.start())
    return len(word[: min(ends, default=len(word))].rstrip(b",;)}]|&>"))


def _yaml_value(line: bytes, match: re.Match[bytes], name: bytes) -> tuple[int, int, bool] | None:
    """`NPM_TOKEN: …`, `X-Vault-Token: …`, `password: …`: prose writes colons too, so the value must look like one."""
    span = _quoted(line, match.end())
    is_quoted = span is not None
    if span is None:
        word = _VALUE.match(line, match.end())
        if word is None:
            return None
        span = (match.end(), match.end() + len(word[0].rstrip(b",;)}]")))
    value = line[span[0] : span[1]]
    if _NO_SECRET.fullmatch(value):
        return (*span, False)
    if name.isupper() and b"_" in name:
        return (*span, True)
    if not _NAME_ENDS.search(name):
        return None
    if b"-" in name.strip(b"-") and len(value) >= 8:
        return (*span, True)
    is_last = _TAIL.match(line, span[1]) is not None
    if match["sep"] == b":" and _PASSWORD_NAME.search(name) and _TOKEN_LIKE.fullmatch(value):
        return (*span, True)  # a struct that a program in Go prints
    if is_quoted and is_last and len(value) >= 4 and b" " not in value:
        return (*span, True)
    return (*span, True) if is_last and _TOKEN_LIKE.fullmatch(value) else None


def _spaced_value(line: bytes, start: int, name: bytes, stem: bytes) -> tuple[int, int, bool] | None:
    """`ENV NAME a value`, `--password value`."""
    if _ENV_BEFORE.search(stem[-16:]):
        value = _WORDS_TO_END.match(line, start)
        span = _quoted(line, start) or ((start, start + len(value[0].rstrip())) if value else None)
        return (*span, not _NO_SECRET.fullmatch(line, *span)) if span and span[1] > span[0] else None
    if not _FLAG.fullmatch(name):
        return None
    span = _quoted(line, start)
    if span is None:
        word = _VALUE.match(line, start)
        if word is None or word[0].startswith(b"-"):
            return None
        span = (start, start + len(word[0].rstrip(b",;)}]|&>")))
    return (*span, not _NO_SECRET.fullmatch(line, *span))


def _quoted(line: bytes, start: int) -> tuple[int, int] | None:
    """Return where the text between quotes stands; None when there is no quote here."""
    quote = _QUOTE.match(line, start)
    if quote is None:
        return None
    at = line.find(quote[0], quote.end(), quote.end() + 16384)
    while at > 0 and len(quote[0]) == 1 and line[at - 1 : at] == b"\\" and line[at - 2 : at - 1] != b"\\":
        at = line.find(quote[0], at + 1, quote.end() + 16384)
    if at >= 0:
        return quote.end(), at
    rest = _WORDS_TO_END.match(line, quote.end())  # the line was cut
    return (quote.end(), rest.end()) if rest else None


# -- the rest ----------------------------------------------------------------------------------------------------------


class _KeyBlock:
    """A private key whose end is not there yet: what stands in front of its lines, and how many there were."""

    def __init__(self, prefix: bytes) -> None:
        self.lines = 0
        # Stamps and seconds change from line to line, the number of a step does not.
        parts = re.split(rb"(#?\d[\d.:]*)", prefix[-256:])
        pattern = b"".join(
            rb"\d[\d.:]*+" if place % 2 and not part.startswith(b"#") else re.escape(part)
            for place, part in enumerate(parts)
        )
        self._prefix = re.compile(pattern)

    def body(self, line: bytes) -> int:
        """Return where the key's part of a line begins; 0 where the line has another prefix."""
        match = self._prefix.match(line)
        return match.end() if match else 0


def _around(match: re.Match[bytes], group: str, text: bytes) -> bytes:
    """Return a match with one group replaced."""
    start, end = match.start(group) - match.start(), match.end(group) - match.start()
    return match[0][:start] + text + match[0][end:]


def _unpack(packed: bytes) -> bytes | None:
    try:
        return binascii.a2b_base64(packed, strict_mode=True)
    except binascii.Error:
        return None


def _is_text(text: bytes) -> bool:
    return not text.translate(None, _TEXT_BYTES)


_TEXT_BYTES: Final = bytes([7, 8, 9, 10, 11, 12, 13, 27, *range(32, 127), *range(128, 256)])


def _redact_message(message: bytes, redactor: Redactor, depth: int = 0) -> bytes:
    """Redact the texts of a protobuf message (the traces of Docker 20.10, BuildKit's definitions); others come back."""
    out: list[bytes] = []
    at = 0
    while at < len(message):
        start = at
        tag, at = _read_varint(message, at)
        match tag & 7:
            case 0:
                _, at = _read_varint(message, at)
            case 1:
                at += 8
            case 5:
                at += 4
            case 2:
                size, body = _read_varint(message, at)
                at = body + size
                if size and 0 < at <= len(message):
                    text = message[body:at]
                    if _is_text(text):
                        clean = redactor.redact(text)
                    else:
                        clean = _redact_message(text, redactor, depth + 1) if depth < 16 else text
                    out += (message[start:body], clean) if clean == text else (_varint(tag), _varint(len(clean)), clean)
                    continue
            case _:
                return message
        if not 0 < at <= len(message):
            return message
        out.append(message[start:at])
    return b"".join(out)


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    """Read a number and where the next byte stands; -1 as place when there is none."""
    value = 0
    for shift in range(0, 70, 7):
        if not 0 <= at < len(message):
            return 0, -1
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    return 0, -1


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
