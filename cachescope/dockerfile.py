r"""Dockerfiles as text with lines: stages, instructions, heredocs, and what ARG, ENV and SHELL mean where.

Reads what BuildKit's Dockerfile frontend reads (https://docs.docker.com/reference/dockerfile/): parser directives,
the escape character, comments between continued lines, heredocs, ONBUILD. Never raises: what is no instruction is left
out. Nothing is executed and no other file is read.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import orjson

MAX_LINES = 20_000
"""A Dockerfile is read up to here; BuildKit refuses far smaller ones."""

LAYER_KEYWORDS = frozenset({"RUN", "COPY", "ADD", "WORKDIR"})
"""The instructions that BuildKit runs as steps; all others only change the configuration of what follows."""

PREDEFINED_ARGUMENTS = frozenset(
    f(name)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for f in (str.upper, str.lower)
)
"""Arguments that need no ARG; BuildKit keeps them out of every cache key."""

_DIRECTIVE = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.+?)\s*")
_KEYWORD = re.compile(r"\s*([A-Za-z]+)(?:\s+|$)")
_FLAG = re.compile(r"--([a-z][a-z-]*)(?:=(\S*))?(?:\s+|$)")
_HEREDOC = re.compile(r"(?:^|\s)\d{0,9}<<(-?)([\"']?)([A-Za-z_][A-Za-z0-9_.-]*)\2(?=\s|$|[;&|>)])")
_PAIR = re.compile(r"([A-Za-z_][A-Za-z0-9_.-]*)=(\"(?:[^\"\\]|\\.)*\"|'[^']*'|(?:\\.|[^\s\\])*)")
_VARIABLE = re.compile(
    r"\\(.)|'([^']*)'|\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)(?:(:?[-+?])([^{}]*))?\})"
)
_SPACES = re.compile(r"\s+")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Heredoc:
    """A document written into the Dockerfile itself."""

    name: str
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One instruction, wherever its lines end."""

    keyword: str
    """In capitals; for a trigger `ONBUILD`."""
    text: str
    """Keyword and arguments on one line, white space collapsed, variables as written."""
    arguments: str
    """What follows the keyword and its flags."""
    flags: tuple[tuple[str, str], ...] = ()
    """`--from=build` as ("from", "build"), in order; a flag without a value has an empty one."""
    heredocs: tuple[Heredoc, ...] = ()
    first_line: int
    last_line: int
    """Lines of the file, from 1, with heredocs, without comments above."""
    stage: int | None = None
    """The number of its stage, from 0; None for an ARG above the first FROM."""
    position: int = 0
    """Its place in the file, from 0."""

    def flag(self, name: str) -> str | None:
        """Return the last value of a flag; None when it is absent."""
        return next((value for key, value in reversed(self.flags) if key == name), None)

    def flag_values(self, name: str) -> list[str]:
        """Return all values of a flag that may be repeated."""
        return [value for key, value in self.flags if key == name]

    @property
    def words(self) -> list[str]:
        """Split the arguments at spaces, or read them as the JSON list that they are."""
        if self.arguments.startswith("["):
            try:
                found = orjson.loads(self.arguments)
            except orjson.JSONDecodeError:
                found = None
            if isinstance(found, list) and all(isinstance(word, str) for word in found):
                return found
        return self.arguments.split()

    @property
    def pairs(self) -> dict[str, str]:
        """Read `ENV a=b c="d e"`, `ENV a b`, `ARG a=b c` or LABEL as names and values; NO_DEFAULT for none."""
        if self.keyword == "ARG":
            found = {name: _unquote(value) for name, value in _PAIR.findall(self.arguments)}
            for word in self.arguments.split():
                if _NAME.fullmatch(word):
                    found.setdefault(word, NO_DEFAULT)
            return found
        name, _, value = self.arguments.partition(" ")
        if _NAME.fullmatch(name):
            return {name: value.strip()}
        return {name: _unquote(value) for name, value in _PAIR.findall(self.arguments)}


NO_DEFAULT = "\0"
"""The value of an ARG that was declared without a default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A FROM section."""

    number: int
    name: str | None
    base: str
    """The image or stage behind FROM, variables as written."""
    platform: str | None
    instructions: tuple[Instruction, ...]
    """The FROM line first."""

    @property
    def printed_name(self) -> str:
        """Return the stage as BuildKit prints it where a build has several."""
        return self.name or f"stage-{self.number}"

    @property
    def first_line(self) -> int:
        """The line of its FROM."""
        return self.instructions[0].first_line


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What an instruction runs under."""

    environment: Mapping[str, str] = field(default_factory=dict)
    arguments: Mapping[str, str] = field(default_factory=dict)
    """ARGs declared above it in its stage, with a value from the command line or their default."""
    declared: frozenset[str] = frozenset()
    """ARGs declared above it, with or without a value."""
    taken: frozenset[str] = frozenset()
    """ARGs, also of stages below, whose values an ENV in force has taken over."""
    shell: str = ""
    user: str = ""

    def expand(self, text: str) -> str:
        """Put in the values of ARG and ENV; what has none stays as written."""
        return expand(text, {**self.arguments, **self.environment})


class Dockerfile:
    """A Dockerfile that was read; equal texts are equal files."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = text.replace("\r\n", "\n").split("\n")[:MAX_LINES]
        self.directives, self.escape = _read_directives(self.lines)
        self.instructions, self.stages = _sort_into_stages(_read_instructions(self.lines, self.escape))

    @property
    def global_arguments(self) -> dict[str, str]:
        """ARGs above the first FROM with their defaults."""
        found: dict[str, str] = {}
        for instruction in self.instructions:
            if instruction.stage is None and instruction.keyword == "ARG":
                found |= {name: expand(value, found) for name, value in instruction.pairs.items()}
        return found

    @cached_property
    def stage_numbers(self) -> dict[str, int]:
        """Stage names in lower case, with the numbers they stand for."""
        return {stage.name.lower(): stage.number for stage in self.stages if stage.name}

    def find_stage(self, name: str) -> Stage | None:
        """Find a stage by its name, its number, or as BuildKit prints it (`stage-1`)."""
        name = name.strip().lower()
        number = self.stage_numbers.get(name)
        if number is None:
            digits = name.removeprefix("stage-")
            number = int(digits) if digits.isdecimal() and len(digits) <= 4 else None
        return self.stages[number] if number is not None and number < len(self.stages) else None

    def base_stage(self, stage: Stage, build_arguments: Mapping[str, str] | None = None) -> Stage | None:
        """Return the stage behind a stage's FROM; None when it stands on an image."""
        number = self.stage_numbers.get(self.base_reference(stage, build_arguments).lower())
        return self.stages[number] if number is not None and number < stage.number else None

    def base_reference(self, stage: Stage, build_arguments: Mapping[str, str] | None = None) -> str:
        """Return the image or stage behind FROM, with the global ARGs put in."""
        known = self.global_arguments | dict(build_arguments or {})
        return expand(stage.base, {name: value for name, value in known.items() if value != NO_DEFAULT})

    def needed_stages(self, target: str | None = None) -> list[Stage]:
        """List the stages that BuildKit builds for a target (by default the last stage), in order."""
        if not self.stages:
            return []
        wanted = (self.find_stage(target) if target else None) or self.stages[-1]
        needed = {wanted.number}
        waiting = [wanted]
        while waiting:
            stage = waiting.pop()
            found = [self.base_stage(stage)]
            for instruction in stage.instructions:
                found += [self.find_stage(source) for source in stage_sources(instruction)]
            for other in found:
                if other is not None and other.number not in needed and other.number < stage.number:
                    needed.add(other.number)
                    waiting.append(other)
        return [stage for stage in self.stages if stage.number in needed]

    def steps_of(self, stage: Stage) -> list[Instruction]:
        """List what BuildKit numbers as steps of a stage: FROM an image, and every layer instruction."""
        first = [] if self.base_stage(stage) or stage.base.lower() == "scratch" else [stage.instructions[0]]
        return first + [i for i in stage.instructions if i.keyword in LAYER_KEYWORDS]

    def scope_at(self, instruction: Instruction, build_arguments: Mapping[str, str] | None = None) -> Scope:
        """Work out ARG, ENV, SHELL and USER as they are in force at an instruction, before it takes effect itself."""
        given = build_arguments or {}
        if instruction.stage is None:
            return Scope()
        return self._scope(self.stages[instruction.stage], instruction, given, depth=0)

    def _scope(self, stage: Stage, until: Instruction | None, given: Mapping[str, str], depth: int) -> Scope:
        base = self.base_stage(stage, given)
        inherited = self._scope(base, None, given, depth + 1) if base is not None and depth < 100 else Scope()
        environment = dict(inherited.environment)
        taken = set(inherited.taken)
        shell, user = inherited.shell, inherited.user
        arguments: dict[str, str] = {}
        declared: set[str] = set()
        defaults = self.global_arguments
        for instruction in stage.instructions:
            if until is not None and instruction.position >= until.position:
                break
            match instruction.keyword:
                case "ARG":
                    for name, default in instruction.pairs.items():
                        declared.add(name)
                        value = given.get(name, default if default != NO_DEFAULT else defaults.get(name, NO_DEFAULT))
                        if value != NO_DEFAULT:
                            arguments[name] = expand(value, arguments | environment)
                case "ENV":
                    known = arguments | environment
                    named = {name for value in instruction.pairs.values() for name in variables(value)}
                    taken |= named & declared
                    environment |= {name: expand(value, known) for name, value in instruction.pairs.items()}
                case "SHELL":
                    shell = instruction.arguments
                case "USER":
                    user = expand(instruction.arguments, arguments | environment)
                case _:
                    pass
        return Scope(
            environment=environment,
            arguments=arguments,
            declared=frozenset(declared),
            taken=frozenset(taken),
            shell=shell,
            user=user,
        )


def expand(text: str, values: Mapping[str, str]) -> str:
    """Put values in for `$NAME` and `${NAME}` (also `:-` and `:+`); unset names stay, single quotes protect."""

    def value(match: re.Match[str]) -> str:
        name = match[3] or match[4]
        if not name:
            return match[0]
        known = values.get(name)
        operator, word = match[5] or "", match[6] or ""
        if operator.endswith("-"):
            return known if known or (known is not None and operator == "-") else _expand_plain(word, values)
        if operator.endswith("+"):
            return _expand_plain(word, values) if known or (known is not None and operator == "+") else ""
        return known if known is not None else match[0]

    return _VARIABLE.sub(value, text) if "$" in text else text


def variables(text: str) -> list[str]:
    """List the names that a text takes values of."""
    return [match[3] or match[4] for match in _VARIABLE.finditer(text) if match[3] or match[4]]


def split_at_variables(text: str) -> list[str]:
    """Cut a text at its variables: what stands before, between and behind them."""
    pieces = []
    place = 0
    for match in _VARIABLE.finditer(text):
        if match[3] or match[4]:
            pieces.append(text[place : match.start()])
            place = match.end()
    return [*pieces, text[place:]]


def _expand_plain(word: str, values: Mapping[str, str]) -> str:
    """Put values in for plain `$NAME` within the default of another variable."""
    return re.sub(r"\$([A-Za-z_][A-Za-z0-9_]*)", lambda m: values.get(m[1], m[0]), word)


def stage_sources(instruction: Instruction) -> list[str]:
    """List what COPY --from and RUN --mount=from name: stages, numbers or images."""
    found = [value for value in instruction.flag_values("from") if value]
    found += [options["from"] for options in mounts(instruction) if options.get("from")]
    return found


def mounts(instruction: Instruction) -> list[dict[str, str]]:
    """List the mounts of a RUN as options; `type` is always there, `source` stands for its short form `src` too."""
    found = []
    for value in instruction.flag_values("mount"):
        options = {}
        for part in value.split(","):
            key, _, word = part.partition("=")
            options[{"src": "source", "dst": "target", "destination": "target"}.get(key, key)] = word.strip("\"'")
        options.setdefault("type", "bind")
        found.append(options)
    return found


def _unquote(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    return re.sub(r"\\(.)", r"\1", value)


def _read_directives(lines: Sequence[str]) -> tuple[dict[str, str], str]:
    """Read `# syntax=`, `# escape=` and `# check=` from the top; the first other line ends them."""
    directives: dict[str, str] = {}
    for line in lines:
        match = _DIRECTIVE.fullmatch(line.strip())
        if not match or match[1].lower() not in ("syntax", "escape", "check") or match[1].lower() in directives:
            break
        directives[match[1].lower()] = match[2]
    return directives, "`" if directives.get("escape") == "`" else "\\"


def _read_instructions(lines: Sequence[str], escape: str) -> list[Instruction]:
    found = []
    number = 0
    while number < len(lines):
        first = number
        line = lines[number]
        number += 1
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        parts = []
        last = first
        while True:
            stripped = line.rstrip(" \t\r")
            if not (stripped.endswith(escape) and not stripped.endswith(escape * 2)):
                parts.append(line)
                break
            parts.append(stripped[:-1])
            # Comments and blank lines between continued lines belong to no line.
            while number < len(lines) and (not lines[number].strip() or lines[number].lstrip().startswith("#")):
                number += 1
            if number >= len(lines):
                break
            line = lines[number]
            last = number
            number += 1
        logical = "".join(parts)
        heredocs: list[Heredoc] = []
        keyword = logical.split(None, 1)[0].upper()
        if keyword in ("RUN", "COPY", "ADD", "ONBUILD") and "<<" in logical:
            heredocs, number = _read_heredocs(logical, lines, number)
            last = max(last, number - 1) if heredocs else last
        instruction = _read_instruction(logical, heredocs, first + 1, last + 1)
        if instruction is not None:
            found.append(instruction)
    return found


def _read_heredocs(logical: str, lines: Sequence[str], number: int) -> tuple[list[Heredoc], int]:
    found = []
    for dash, _, name in _HEREDOC.findall(logical):
        body = []
        while number < len(lines):
            line = lines[number].rstrip("\r")
            number += 1
            if (line.lstrip("\t") if dash else line) == name:
                break
            body.append(line.lstrip("\t") if dash else line)
        found.append(Heredoc(name, "\n".join(body)))
    return found, number


def _read_instruction(logical: str, heredocs: Sequence[Heredoc], first: int, last: int) -> Instruction | None:
    match = _KEYWORD.match(logical)
    if not match:
        return None
    rest = logical[match.end() :].strip()
    flags = []
    arguments = rest
    while flag := _FLAG.match(arguments):
        flags.append((flag[1], flag[2] or ""))
        arguments = arguments[flag.end() :].lstrip()
    return Instruction(
        keyword=match[1].upper(),
        text=_SPACES.sub(" ", f"{match[1].upper()} {rest}").strip(),
        arguments=_SPACES.sub(" ", arguments).strip(),
        flags=tuple(flags),
        heredocs=tuple(heredocs),
        first_line=first,
        last_line=last,
    )


def _sort_into_stages(found: Sequence[Instruction]) -> tuple[tuple[Instruction, ...], tuple[Stage, ...]]:
    placed: list[Instruction] = []
    sections: list[list[Instruction]] = []
    for position, instruction in enumerate(found):
        if instruction.keyword == "FROM":
            sections.append([])
        stage = len(sections) - 1 if sections else None
        instruction = Instruction(
            keyword=instruction.keyword,
            text=instruction.text,
            arguments=instruction.arguments,
            flags=instruction.flags,
            heredocs=instruction.heredocs,
            first_line=instruction.first_line,
            last_line=instruction.last_line,
            stage=stage,
            position=position,
        )
        placed.append(instruction)
        if sections:
            sections[-1].append(instruction)
    return tuple(placed), tuple(_read_stage(number, section) for number, section in enumerate(sections))


def _read_stage(number: int, section: Sequence[Instruction]) -> Stage:
    words = section[0].arguments.split()
    is_named = len(words) >= 3 and words[1].upper() == "AS"
    return Stage(
        number=number,
        name=words[2] if is_named else None,
        base=words[0] if words else "",
        platform=section[0].flag("platform"),
        instructions=tuple(section),
    )
