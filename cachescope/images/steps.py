"""Which step of a build made which layer of the image that it built."""

import re
from collections.abc import Sequence

_FLAG = re.compile(r"--[a-z][a-z-]{0,30}(?:=\S{0,1000})?\s+")
_COPIED = re.compile(r"(?:(?:dir|file|multi|archive):[0-9a-f]{64}|…) in (\S+)")


def match_steps(instructions: Sequence[str | None], steps: Sequence[tuple[int, str]]) -> list[int | None]:
    """Return for each layer's instruction, from the bottom, the position of its step; each step is taken once.

    Steps come in the order of the build, with the texts that builders print. The history of an image knows no flags,
    and the classic builder's knows hashes instead of what was copied: then the keyword and the target must do.
    """
    matched: list[int | None] = []
    first = 0
    known = [(position, _plain(text), _target(text)) for position, text in steps]
    for instruction in instructions:
        found = None
        if instruction:
            wanted = [_plain(line) for line in instruction.split("\n")]
            target = _target(instruction)
            for place in range(first, len(known)):
                _, text, its_target = known[place]
                if text in wanted or (target is not None and target == its_target and _COPIED.search(instruction)):
                    found = place
                    break
        matched.append(None if found is None else known[found][0])
        first = first if found is None else found + 1
    return matched


def _plain(text: str) -> str:
    keyword, _, rest = text.strip().partition(" ")
    rest = rest.lstrip()
    while (flag := _FLAG.match(rest)) is not None:
        rest = rest[flag.end() :]
    return f"{keyword.upper()} {' '.join(rest.split())}"


def _target(text: str) -> str | None:
    """The keyword and where it copies to: `COPY .`."""
    keyword = text.strip().partition(" ")[0].upper()
    words = text.split()
    return f"{keyword} {words[-1]}" if keyword in ("COPY", "ADD") and len(words) > 2 else None
