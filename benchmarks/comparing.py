"""Measures how well and how fast instructions are recognised across edits of a Dockerfile.

    python benchmarks/comparing.py [SEED]

Makes synthetic Dockerfiles out of real-looking lines, edits them with a known mapping (insert, delete, move, reword,
rename a stage), and counts matches. Then times one build of 60 steps against an image's stored state.
"""

import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cachescope.matching import KnownInstruction, match_instructions, match_steps
from cachescope.model import Step, StepKind, StepStatus

TOOLS = ["curl", "git", "make", "gcc", "jq", "unzip", "libpq-dev", "openssl", "tini", "rsync", "zstd", "vim"]
FOLDERS = ["src", "lib", "cmd", "web", "assets", "config", "scripts", "migrations", "proto", "tests", "docs", "tools"]
STAGES = ["base", "deps", "build", "test", "assets", "release", "tools", "runtime"]


@dataclass
class Line:
    """One line of a synthetic Dockerfile, and which line it was before the edits."""

    text: str
    origin: int | None
    stage: str


def make_line(rng: random.Random) -> str:
    """Make a line that could stand in a real Dockerfile."""
    tools = " ".join(rng.sample(TOOLS, rng.randint(2, 5)))
    folder, other = rng.sample(FOLDERS, 2)
    return rng.choice(
        [
            f"RUN apt-get update && apt-get install -y --no-install-recommends {tools} && rm -rf /var/lib/apt/lists/*",
            f"COPY {folder}/ ./{folder}/",
            f"COPY {folder} {other}/{folder}.txt ./",
            f"WORKDIR /srv/{folder}",
            f"RUN make -C {folder} {other} VERSION={rng.randint(1, 9)}.{rng.randint(0, 99)}",
            f"RUN npm run build:{folder} -- --out dist/{other} --level {rng.randint(1, 9)}",
            f"RUN python -m compileall -q {folder} && python -m {folder}.check --strict {other}",
            f"RUN ./{folder}/install.sh --prefix=/opt/{other} --jobs={rng.randint(2, 16)} && strip /opt/{other}/bin/*",
            f"RUN curl -fsSL https://example.org/{folder}/{other}-{rng.randint(1, 40)}.tar.gz | tar -xz -C /opt",
            f"ADD {folder}.tar.gz /opt/{other}/",
        ]
    )


def reword(text: str, rng: random.Random) -> str:
    """Change one word of a line."""
    words = text.split()
    if len(words) < 5:
        return f"{text} # {rng.choice(TOOLS)}" if words[0] == "RUN" else text.rstrip("/") + f"/{rng.choice(TOOLS)}"
    place = rng.randrange(2, len(words))
    change = rng.choice(["replace", "insert", "remove"])
    if change == "replace":
        words[place] = words[place] + rng.choice(["2", "-slim", ".1", "x"])
    elif change == "insert":
        words.insert(place, rng.choice(["--verbose", "--retry=3", rng.choice(TOOLS)]))
    else:
        del words[place]
    return " ".join(words)


def make_new_line(lines: list[Line], rng: random.Random) -> str:
    """Make a line that no line reads like: whether a line was reworded or deleted beside a new one, nobody can tell."""
    while True:
        text = make_line(rng)
        words = set(text.split())
        if all(len(words & set(line.text.split())) < 0.5 * len(words) for line in lines):
            return text
        if rng.random() < 0.05:
            return f"RUN ./scripts/{rng.randrange(10**6)}.sh"


def edit(lines: list[Line], rng: random.Random) -> list[Line]:
    """Make one to four edits, keeping which line is which."""
    found = [Line(line.text, line.origin, line.stage) for line in lines]
    for _ in range(rng.randint(1, 4)):
        kind = rng.choice(["insert", "delete", "move", "reword", "reword", "rename"])
        place = rng.randrange(len(found))
        if kind == "insert":
            found.insert(place, Line(make_new_line(lines, rng), None, found[place].stage))
        elif kind == "delete" and len(found) > 3:
            del found[place]
        elif kind == "move":
            line = found.pop(place)
            same = [i for i, other in enumerate(found) if other.stage == line.stage]
            found.insert(rng.choice(same) if same else place, line)
        elif kind == "reword":
            found[place] = Line(reword(found[place].text, rng), found[place].origin, found[place].stage)
        elif kind == "rename":
            old, new = found[place].stage, f"{found[place].stage}-{rng.choice('xyz')}"
            for line in found:
                line.stage = new if line.stage == old else line.stage
    return found


def to_steps(lines: list[Line]) -> list[Step]:
    """Return the steps that a builder would log."""
    counts: dict[str, int] = {}
    steps = []
    for line in lines:
        counts[line.stage] = counts.get(line.stage, 1) + 1
        steps.append(
            Step(
                kind=StepKind.INSTRUCTION,
                text=line.text,
                status=StepStatus.DONE,
                cached=False,
                cacheable=True,
                stage=line.stage,
                index=counts[line.stage],
                instruction=line.text.split()[0],
            )
        )
    return steps


def measure(seed: int, rounds: int = 2000) -> dict[str, float]:
    """Return the counts over some rounds: lines to be matched, matched right, matched with the wrong one."""
    rng = random.Random(seed)
    count = {"lines": 0, "steps right": 0, "steps wrong": 0, "known right": 0, "known wrong": 0}
    for _ in range(rounds):
        stages = rng.sample(STAGES, rng.randint(1, 4))
        old: list[Line] = []
        texts: set[str] = set()
        for stage in stages:
            for _ in range(rng.randint(3, 12)):
                text = make_line(rng)
                # Twice the same line in one file: which one was deleted nobody can tell.
                if text not in texts:
                    texts.add(text)
                    old.append(Line(text, len(old), stage))
        new = edit(old, rng)
        before, after = to_steps(old), to_steps(new)
        matches = match_steps(before, after)
        known = [
            KnownInstruction(id=1000 + n, text=s.text, stage=s.stage, index=s.index or 0) for n, s in enumerate(before)
        ]
        ids = match_instructions(known, after)
        for position, line in enumerate(new):
            count["lines"] += line.origin is not None
            for name, got in (("steps", matches[position]), ("known", ids.get(position))):
                got = got - 1000 if name == "known" and got is not None else got
                if got is not None and got == line.origin:
                    count[f"{name} right"] += 1
                elif got is not None:
                    count[f"{name} wrong"] += 1
    return count


def main() -> None:
    """Print matches and times."""
    count = measure(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    print(count)
    for name in ("steps", "known"):
        print(f"{name}: {count[f'{name} right'] / count['lines']:.2%} matched, {count[f'{name} wrong']} wrong")
    rng = random.Random(5)
    lines = [Line(make_line(rng), n, STAGES[n % 4]) for n in range(60)]
    known = [KnownInstruction(id=n, text=line.text, stage=line.stage, index=n) for n, line in enumerate(lines)]
    steps = to_steps([Line(reword(line.text, rng), None, line.stage) for line in lines])
    started = time.process_time()
    for _ in range(20):
        match_instructions(known, steps)
    print(f"60 reworded steps against 60 known ones: {(time.process_time() - started) / 20 * 1000:.1f} ms")


if __name__ == "__main__":
    main()
