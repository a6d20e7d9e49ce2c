"""The command line of a build as it was called: arguments, `--no-cache`, cache imports, target, context.

Reads `docker build`, `docker buildx build`, `docker buildx bake`, `docker compose build`, `buildah build` and `podman
build`, with or without the program in front, and the parts of a bake file (HCL or JSON) that matter for the cache.
Nothing is run and no variable of a bake file is resolved: what is not written out stays unknown.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson

MAX_WORDS = 2_000

# Options without a value; every other option takes the next word unless it is written with `=`.
_SWITCHES = frozenset(
    (
        "--check",
        "--compress",
        "--debug",
        "--force-rm",
        "--help",
        "--layers",
        "--load",
        "--no-cache",
        "--no-hostname",
        "--no-hosts",
        "--print",
        "--pull",
        "--push",
        "--quiet",
        "--rm",
        "--squash",
        "--stdin",
        "--squash-all",
        "--tls-verify",
        "--version",
        "--with-dependencies",
        "--disable-compression",
        "--disable-content-trust",
        "--identity-label",
        "--omit-history",
        "--inherit-labels",
    )
)
_SHORT_WITH_VALUE = frozenset(("-f", "-t", "-m", "-o", "-c", "-v", "-p"))
_COMMANDS = frozenset(("build", "bake", "bud"))
_BLOCK = re.compile(r'^[ \t]*target[ \t]+"([^"\n]+)"[ \t]*\{', re.MULTILINE)
_TEXT_ATTRIBUTE = re.compile(r'^[ \t]*"?([A-Za-z_][\w-]*)"?[ \t]*[=:][ \t]*"([^"\n]*)"[ \t]*,?[ \t]*$', re.MULTILINE)
_MAP = re.compile(r"\b(args|contexts)[ \t]*=[ \t]*\{((?:[^{}$]|\$\{[^{}]*\}|\$)*)\}")
_LIST = re.compile(r"\b(inherits|cache-from|no-cache-filter)[ \t]*=[ \t]*\[([^\[\]]*)\]")
_NO_CACHE = re.compile(r"^[ \t]*no-cache[ \t]*=[ \t]*true\b", re.MULTILINE)
_QUOTED = re.compile(r'"([^"\n]*)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """What a build was asked to do."""

    arguments: Mapping[str, str] = field(default_factory=dict)
    """`--build-arg` as given; one without a value (taken from the environment) is left out."""
    target_arguments: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """`bake --set target.args.NAME=value`, by target; `*` stands for all."""
    no_cache: bool = False
    no_cache_targets: frozenset[str] = frozenset()
    """Bake targets for which `--set target.no-cache` was given; `*` stands for all."""
    no_cache_stages: frozenset[str] = frozenset()
    """`--no-cache-filter`, in lower case."""
    cache_from: tuple[str, ...] = ()
    cache_to: tuple[str, ...] = ()
    contexts: Mapping[str, str] = field(default_factory=dict)
    """`--build-context NAME=PATH`."""
    target: str | None = None
    builder: str | None = None
    context: str | None = None
    dockerfile: str | None = None
    is_bake: bool = False

    def arguments_of(self, target: str | None) -> dict[str, str]:
        """Return the build arguments in force for a bake target."""
        found = dict(self.arguments)
        for pattern, values in self.target_arguments.items():
            if _means(pattern, target):
                found |= values
        return found

    def asks_for_no_cache(self, stage: str | None, target: str | None) -> bool:
        """Tell whether this stage of this target was to be built without cache."""
        if self.no_cache or any(_means(pattern, target) for pattern in self.no_cache_targets):
            return True
        return bool(stage) and stage is not None and stage.lower() in self.no_cache_stages


@dataclass(frozen=True, slots=True, kw_only=True)
class BakeTarget:
    """One target of a bake file, as far as it is written out in it."""

    context: str | None = None
    dockerfile: str | None = None
    target: str | None = None
    arguments: Mapping[str, str] = field(default_factory=dict)
    inherits: tuple[str, ...] = ()
    no_cache: bool = False
    no_cache_stages: frozenset[str] = frozenset()
    cache_from: tuple[str, ...] = ()


def read_invocation(words: Sequence[str]) -> Invocation:
    """Read a command line that was split into words; unknown options are passed over."""
    arguments: dict[str, str] = {}
    target_arguments: dict[str, dict[str, str]] = {}
    cache_from: list[str] = []
    cache_to: list[str] = []
    contexts: dict[str, str] = {}
    stages: set[str] = set()
    targets: set[str] = set()
    single: dict[str, str] = {}
    switches: set[str] = set()
    places: list[str] = []
    command = ""
    rest = list(words[:MAX_WORDS])
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "-":
            if not command and word in _COMMANDS:
                command = word
                places = []
            else:
                places.append(word)
            continue
        name, equals, value = word.partition("=")
        if name in _SWITCHES and not equals:
            switches.add(name)
            continue
        if name in _SWITCHES:
            switches |= {name} if value.lower() not in ("false", "0") else set()
            continue
        if not equals and (name.startswith("--") or name in _SHORT_WITH_VALUE):
            value = rest.pop(0) if rest else ""
        match name:
            case "--build-arg":
                key, given, text = value.partition("=")
                if given:
                    arguments[key] = text
            case "--build-context":
                key, _, text = value.partition("=")
                contexts[key] = text
            case "--cache-from":
                cache_from.append(value)
            case "--cache-to":
                cache_to.append(value)
            case "--no-cache-filter":
                stages |= {stage.strip().lower() for stage in value.split(",")}
            case "--set":
                _read_override(value, target_arguments, targets, stages, cache_from)
            case _:
                single[{"-f": "--file"}.get(name, name)] = value
    is_bake = command == "bake"
    return Invocation(
        arguments=arguments,
        target_arguments=target_arguments,
        no_cache="--no-cache" in switches,
        no_cache_targets=frozenset(targets),
        no_cache_stages=frozenset(stages),
        cache_from=tuple(cache_from),
        cache_to=tuple(cache_to),
        contexts=contexts,
        target=single.get("--target"),
        builder=single.get("--builder"),
        context=None if is_bake or not places else places[-1],
        dockerfile=None if is_bake else single.get("--file"),
        is_bake=is_bake,
    )


def command_of(attributes: Mapping[str, str]) -> tuple[str, ...]:
    """Write what a build record holds (`buildkit_record.read_attributes`) as the command line that asks for it."""
    words = ["build"]
    for name, value in attributes.items():
        if name.startswith("build-arg:"):
            words += ["--build-arg", f"{name.removeprefix('build-arg:')}={value}"]
    if "no-cache" in attributes:
        stages = attributes["no-cache"]
        words += ["--no-cache-filter", stages] if stages else ["--no-cache"]
    for name, option in (("target", "--target"), ("filename", "--file")):
        if attributes.get(name):
            words += [option, attributes[name]]
    for source in _imports_of(attributes.get("cache-imports", "")):
        words += ["--cache-from", source]
    return tuple(words)


def _imports_of(text: str) -> list[str]:
    try:
        listed = orjson.loads(text or "[]")
    except orjson.JSONDecodeError:
        return []
    found = []
    for source in listed if isinstance(listed, list) else ():
        kind, details = _mapping(source).get("Type"), _mapping(_mapping(source).get("Attrs"))
        if isinstance(kind, str):
            found.append(",".join([f"type={kind}", *(f"{key}={value}" for key, value in details.items())]))
    return found


def _read_override(
    text: str, arguments: dict[str, dict[str, str]], targets: set[str], stages: set[str], cache_from: list[str]
) -> None:
    """Read one `bake --set target.key=value`."""
    path, _, value = text.partition("=")
    target, _, key = path.partition(".")
    if key.startswith("args."):
        arguments.setdefault(target, {})[key[5:]] = value
    elif key == "no-cache" and value.lower() in ("true", "1"):
        targets.add(target)
    elif key == "no-cache-filter":
        stages |= {stage.strip().lower() for stage in value.split(",")}
    elif key.rstrip("+") == "cache-from":
        cache_from.append(value)


def read_bake_file(text: str) -> dict[str, BakeTarget]:
    """Read the targets of a bake file, with what they inherit put in; {} for what is no bake file."""
    found = _read_json_targets(text) if text.lstrip().startswith("{") else _read_hcl_targets(text)
    return {name: _inherit(name, found, ()) for name in found}


def _read_json_targets(text: str) -> dict[str, BakeTarget]:
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    targets = document.get("target") if isinstance(document, dict) else None
    if not isinstance(targets, dict):
        return {}
    return {
        name: BakeTarget(
            context=_text(target.get("context")),
            dockerfile=_text(target.get("dockerfile")),
            target=_text(target.get("target")),
            arguments={k: v for k, v in _mapping(target.get("args")).items() if isinstance(v, str)},
            inherits=_texts(target.get("inherits")),
            no_cache=target.get("no-cache") is True,
            no_cache_stages=frozenset(stage.lower() for stage in _texts(target.get("no-cache-filter"))),
            cache_from=_texts(target.get("cache-from")),
        )
        for name, target in targets.items()
        if isinstance(target, dict)
    }


def _read_hcl_targets(text: str) -> dict[str, BakeTarget]:
    found = {}
    for match in _BLOCK.finditer(text):
        body = _block_body(text, match.end())
        maps = dict(_MAP.findall(body))
        lists = {kind: tuple(_QUOTED.findall(inner)) for kind, inner in _LIST.findall(body)}
        flat = dict(_TEXT_ATTRIBUTE.findall(_MAP.sub("", body)))
        arguments = dict(_TEXT_ATTRIBUTE.findall(maps.get("args", "").replace(",", "\n")))
        found[match[1]] = BakeTarget(
            context=flat.get("context"),
            dockerfile=flat.get("dockerfile"),
            target=flat.get("target"),
            # A value with `${…}` depends on a variable that this file alone does not tell.
            arguments={name: value for name, value in arguments.items() if "${" not in value},
            inherits=lists.get("inherits", ()),
            no_cache=bool(_NO_CACHE.search(body)),
            no_cache_stages=frozenset(stage.lower() for stage in lists.get("no-cache-filter", ())),
            cache_from=lists.get("cache-from", ()),
        )
    return found


def _block_body(text: str, start: int) -> str:
    depth = 1
    for position in range(start, len(text)):
        depth += (text[position] == "{") - (text[position] == "}")
        if depth == 0:
            return text[start:position]
    return text[start:]


def _inherit(name: str, targets: Mapping[str, BakeTarget], path: tuple[str, ...]) -> BakeTarget:
    own = targets[name]
    result = BakeTarget()
    for parent in own.inherits:
        if parent in targets and parent not in path:
            result = _merge(result, _inherit(parent, targets, (*path, name)))
    return _merge(result, own)


def _merge(base: BakeTarget, own: BakeTarget) -> BakeTarget:
    return BakeTarget(
        context=own.context or base.context,
        dockerfile=own.dockerfile or base.dockerfile,
        target=own.target or base.target,
        arguments={**base.arguments, **own.arguments},
        inherits=own.inherits,
        no_cache=own.no_cache or base.no_cache,
        no_cache_stages=own.no_cache_stages or base.no_cache_stages,
        cache_from=own.cache_from or base.cache_from,
    )


def _means(pattern: str, target: str | None) -> bool:
    if "*" not in pattern:
        return pattern == target
    head, _, tail = pattern.partition("*")
    name = target or ""
    return name.startswith(head) and name.endswith(tail.rpartition("*")[2])


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _texts(value: object) -> tuple[str, ...]:
    return tuple(word for word in value if isinstance(word, str)) if isinstance(value, list) else ()


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}
