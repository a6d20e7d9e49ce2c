"""Times the repository page with 10,000 and with 1,000,000 stored builds: its queries, and all of it over HTTP.

    python benchmarks/pages.py [--builds 10000 1000000] [--database sqlite|postgresql|URL] [--runs 60] [--explain]

One repository holds half of all builds, 99 others share the rest; 180 days, 15 steps a build. The rows are made in the
database by SQL, so that a million builds take minutes. What counts is the ratio of the two sizes in one run.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import httpx
from sqlalchemy import Engine, event, func, select, text
from sqlalchemy.orm import Session

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import chaos
from service.auth.sessions import SESSION_COOKIE
from service.auth.tokens import hash_token, make_link_token
from store import migrations
from store.database import make_engine, reading, transaction
from store.models import Build, DailyBuilds
from store.models.accounts import Team, UserSession
from store.queries import accounts, breaks, builds, overview, repositories, rollups, teams
from store.queries.builds import BuildFilter
from tests import servers, serving

DAYS = 180
REPOSITORIES = 100
STEPS = 15
INSTRUCTIONS = 20
LAST_DAY = date(2026, 11, 20)
FIRST = datetime.combine(LAST_DAY - timedelta(days=DAYS - 1), datetime.min.time(), UTC)

# How the two databases write what SQL has no common word for.
DIALECTS = {
    "sqlite": {
        "moment": "strftime('%Y-%m-%d %H:%M:%f000', {0}, 'unixepoch')",
        "day": "date({0}, 'unixepoch')",
        "counts": "json_group_object({0}, {1})",
        "no": "0",
        "yes": "1",
        "is_hit": "s.cached = 1",
        "analyze": "ANALYZE",
    },
    "postgresql": {
        "moment": "to_timestamp({0})",
        "day": "(to_timestamp({0}) AT TIME ZONE 'UTC')::date",
        "counts": "coalesce(json_object_agg({0}::text, {1}), '{{}}')",
        "no": "false",
        "yes": "true",
        "is_hit": "s.cached",
        "analyze": "VACUUM ANALYZE",
    },
}

NUMBERS = "WITH RECURSIVE n(i) AS (SELECT CAST(1 AS bigint) UNION ALL SELECT i + 1 FROM n WHERE i < {count})"


def fill(engine: Engine, count: int) -> None:
    """Make a team's builds, with everything that belongs to them, and their daily sums."""
    words = DIALECTS[engine.dialect.name]
    no, yes = words["no"], words["yes"]
    seconds = f"({int(FIRST.timestamp())} + CAST(n.i AS bigint) * {DAYS * 86400} / {count + 1})"
    moment, day = words["moment"].format(seconds), words["day"].format(seconds)
    # Every second build is of the first repository; images 2r-1 and 2r are of repository r.
    repository = f"(CASE WHEN n.i % 2 = 0 THEN 1 ELSE 2 + (n.i / 2) % {REPOSITORIES - 1} END)"
    image = f"({repository} * 2 - (n.i / 7) % 2)"
    branch = "(CASE n.i % 5 WHEN 0 THEN 'feature-' || ((n.i / 100) % 50) WHEN 1 THEN 'fix' ELSE 'main' END)"
    branch_class = "(CASE n.i % 5 WHEN 0 THEN 'pull_request' WHEN 1 THEN 'branch' ELSE 'default' END)"
    outcome = "(CASE n.i % 29 WHEN 0 THEN 'failed' ELSE 'succeeded' END)"
    hits, duration = "((n.i * 7919) % 16)", "(20 + (n.i * 104729) % 4000 / 10.0)"
    figures = f"15, {hits}, 15 - {hits}, 0, (15 - {hits}) * 3.5, {hits} * 4.5, 0, {duration}"
    numbers = NUMBERS.format(count=count)
    statements = [
        f"""{numbers} INSERT INTO deliveries (id, team_id, repository_id, kind, idempotency_key, parameters, redactions,
            warnings, state, attempts, fence, next_at, received_at)
            SELECT 'delivery-' || n.i, 1, {repository}, 'upload', n.i, '{{}}', 0, '[]', 'done', 1, 1, {moment}, {moment}
            FROM n""",
        f"""{numbers} INSERT INTO runs (id, repository_id, key, attempt, url, commit_id, branch, is_bot)
            SELECT n.i, {repository}, n.i, 1, 'https://ci.example/' || n.i, 'abcdef' || n.i, {branch}, {no} FROM n""",
        f"""{numbers} INSERT INTO builds (id, repository_id, run_id, delivery_id, position, builder, format, outcome,
            started_at, started_from, day, branch, branch_class, commit_id, runner, cacheable, hits, misses, unknown,
            seconds_spent, seconds_avoided, avoided_unknown, duration_seconds, lost_seconds, rebuild_seconds, images,
            base_images, cache_imports, cache_exports, warnings, received_at)
            SELECT n.i, {repository}, n.i, 'delivery-' || n.i, 0, 'buildkit', 'buildkit-plain', {outcome}, {moment},
            'log', {day}, {branch}, {branch_class}, 'abcdef' || n.i, 'ci-' || n.i % 9, {figures}, 1.5, 0, '[]', '[]',
            '[]', '[]', '[]', {moment} FROM n""",
        f"""{numbers} INSERT INTO build_images (build_id, image_id, repository_id, tags, cacheable, hits, misses,
            unknown, seconds_spent, seconds_avoided, avoided_unknown, duration_seconds, branch, branch_class, outcome,
            started_at)
            SELECT n.i, {image}, {repository}, '[]', {figures}, {branch}, {branch_class}, {outcome}, {moment} FROM n""",
        f"""INSERT INTO steps (build_id, position, repository_id, image_id, instruction_id, text_id, number, kind,
            stage, idx, total, instruction, status, cached, cacheable, started_seconds, duration_seconds, digest,
            output_lines, line, reference_seconds, is_break)
            SELECT b.build_id, p.i, b.repository_id, b.image_id, (b.image_id - 1) * {INSTRUCTIONS} + p.i + 1,
            (b.image_id - 1) * {INSTRUCTIONS} + p.i + 1, p.i, 'instruction', 'build', p.i, {STEPS}, 'RUN',
            CASE WHEN p.i < b.hits THEN 'cached' ELSE 'done' END, CASE WHEN p.i < b.hits THEN {yes} ELSE {no} END,
            {yes}, p.i * 2, CASE WHEN p.i < b.hits THEN NULL ELSE 3.5 END, 'sha256:0123456789abcdef' || b.build_id, 12,
            p.i * 9, 4.5, {no} FROM build_images b CROSS JOIN (
              WITH RECURSIVE p(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM p WHERE i < {STEPS - 1})
              SELECT i FROM p) p""",
        f"""INSERT INTO breaks (build_id, position, repository_id, image_id, instruction_id, day, branch_class, cause,
            expected, cost_seconds, own_seconds, cascade, files, evidence, possible)
            SELECT b.id, b.hits, b.repository_id, i.image_id, (i.image_id - 1) * {INSTRUCTIONS} + b.hits + 1, b.day,
            b.branch_class, CASE WHEN b.id % 3 = 0 THEN 'cache_lost' ELSE 'files_changed' END,
            CASE WHEN b.id % 3 = 0 THEN {no} ELSE {yes} END, (15 - b.hits) * 3.5, 3.5, '[]', '[]', '[]', '[]'
            FROM builds b JOIN build_images i ON i.build_id = b.id WHERE b.hits < 15""",
        *(_daily_figures(words, table) for table in ("builds", "images")),
        f"""INSERT INTO daily_instructions (repository_id, day, instruction_id, branch_class, hits, misses, breaks,
            seconds_spent, lost_seconds, rebuild_seconds, unexplained_seconds, causes)
            SELECT s.repository_id, s.day, s.instruction_id, s.branch_class, s.hits, s.misses, coalesce(x.breaks, 0),
            s.spent, coalesce(x.lost, 0), coalesce(x.rebuild, 0), 0, '{{"cache_lost": 1, "files_changed": 2}}'
            FROM (SELECT b.repository_id, b.day, s.instruction_id, b.branch_class,
                sum(CASE WHEN {words["is_hit"]} THEN 1 ELSE 0 END) AS hits,
                sum(CASE WHEN {words["is_hit"]} THEN 0 ELSE 1 END) AS misses,
                coalesce(sum(s.duration_seconds), 0) AS spent
                FROM builds b JOIN steps s ON s.build_id = b.id GROUP BY 1, 2, 3, 4) s
            LEFT JOIN (SELECT instruction_id, day, branch_class, count(*) AS breaks,
                sum(CASE WHEN expected THEN 0 ELSE cost_seconds END) AS lost,
                sum(CASE WHEN expected THEN cost_seconds ELSE 0 END) AS rebuild FROM breaks GROUP BY 1, 2, 3) x
            ON x.instruction_id = s.instruction_id AND x.day = s.day AND x.branch_class = s.branch_class
            ORDER BY s.day, s.repository_id""",  # as they come in life: a day of a repository at a time
    ]
    with transaction(engine) as session:
        team = teams.create_team(session, slug="bench", name="Bench")
        for number in range(1, REPOSITORIES + 1):
            repository_id = repositories.get_or_create_repository(session, team.id, f"bench/{number:03}").id
            for name in ("api", "web"):
                repositories.get_or_create_image(
                    session, repository_id, dockerfile=f"{name}/Dockerfile", target="", platform="", name=name
                )
        images = REPOSITORIES * 2
        session.execute(
            text(f"""{NUMBERS.format(count=images * INSTRUCTIONS)}
                INSERT INTO instructions (id, image_id, repository_id, stage, keyword, text, text_hash, executions)
                SELECT n.i, (n.i - 1) / {INSTRUCTIONS} + 1, (n.i - 1) / {INSTRUCTIONS * 2} + 1, 'build', 'RUN',
                'RUN npm run step-' || n.i, n.i, 9 FROM n""")
        )
        session.execute(
            text(
                "INSERT INTO texts (id, repository_id, text_hash, text) "
                "SELECT id, repository_id, id, text FROM instructions"
            )
        )
    for statement in statements:
        with transaction(engine) as session:
            session.execute(text(statement))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(words["analyze"])


def _daily_figures(words: dict[str, str], kind: str) -> str:
    """The statement that sums days up; `store.queries.rollups` does the same in Python, a day at a time."""
    columns = "repository_id" if kind == "builds" else "image_id, repository_id"
    key = "b.repository_id" if kind == "builds" else "i.image_id, b.repository_id"
    own = "true" if kind == "builds" else "i.image_id = d.image_id"
    join = "" if kind == "builds" else "JOIN build_images i ON i.build_id = b.id"
    good = "b.outcome = 'succeeded'"
    rate = "CAST(round(b.hits * 1000.0 / 15) AS integer)"
    duration = "CAST(round(ln(b.duration_seconds) * 50) AS integer)"
    histogram = f"""(SELECT {{0}} FROM (SELECT {{1}} AS bin, count(*) AS counted FROM builds b {join}
        WHERE b.repository_id = d.repository_id AND b.day = d.day AND b.branch_class = d.branch_class
        AND {own} AND {good} GROUP BY 1) x)"""
    counts = words["counts"].format("bin", "counted")
    return f"""INSERT INTO daily_{kind} ({columns}, day, branch_class, builds, failed, hits, misses, unknown,
        seconds_spent, seconds_avoided, avoided_unknown, lost_seconds, rebuild_seconds, unexplained_seconds,
        overhead_seconds, duration_sum, duration_count, last_build_id, hit_rates, durations)
        SELECT d.*, {histogram.format(counts, rate)}, {histogram.format(counts, duration)} FROM (
            SELECT {key}, b.day, b.branch_class, count(*), sum(CASE WHEN {good} THEN 0 ELSE 1 END), sum(b.hits),
            sum(b.misses), 0, sum(b.seconds_spent), sum(b.seconds_avoided), 0, sum(b.lost_seconds), 0, 0, 0,
            sum(b.duration_seconds), count(*), max(b.id) FROM builds b {join}
            GROUP BY {key}, b.day, b.branch_class) d ORDER BY d.day"""


def page(
    session: Session, team_id: int, repository_id: int, image_id: int | None, cursor: builds.BuildKey | None
) -> None:
    """Everything that the repository page says before its figures are drawn."""
    first, before = LAST_DAY - timedelta(days=89), LAST_DAY - timedelta(days=179)
    rollups.load_period(session, repository_id, first, LAST_DAY, image_id=image_id)
    rollups.load_period(session, repository_id, before, first - timedelta(days=1), image_id=image_id)
    breaks.load_ranked_breaks(
        session, team_id, first, LAST_DAY, repository_id=repository_id, image_id=image_id, limit=12
    )
    chosen = BuildFilter(branch_class="default", image_id=image_id)
    builds.load_builds(session, repository_id, chosen, before=cursor)
    builds.load_branches(session, repository_id)
    repositories.list_images(session, repository_id)


def build_page(session: Session, team_id: int, build_id: int) -> None:
    """What the build page shows."""
    build = builds.find_build(session, [team_id], build_id)
    assert build is not None
    builds.load_build(session, build)
    builds.load_images_of_build(session, build_id)
    builds.load_newer_and_older(session, build)
    breaks.load_breaks(session, build_id)


class Installation:
    """A filled database, and the pages that are asked of it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        with reading(engine) as session:
            first, newest = session.execute(
                select(func.min(Build.started_at), func.max(Build.started_at)).where(Build.repository_id == 1)
            ).one()
            last = session.scalars(select(func.max(Build.id)).where(Build.repository_id == 1)).one() or 0
            busiest = session.scalars(
                select(DailyBuilds.day)
                .where(DailyBuilds.repository_id == 1)
                .order_by(DailyBuilds.builds.desc())
                .limit(5)
            ).all()
        early = (first + (newest - first) / 50, 0)
        self.turn = 0
        self.pages: dict[str, Callable[[Session], object]] = {
            "repository page, half of all builds": lambda s: page(s, 1, 1, None, None),
            "repository page, one image of it": lambda s: page(s, 1, 1, 1, None),
            "repository page, close to its oldest builds": lambda s: page(s, 1, 1, None, early),
            "repository page, another repository": lambda s: page(s, 1, 2 + self.turn % 99, None, None),
            "its figures over time, drawn after the page": lambda s: rollups.load_days(
                s, 1, LAST_DAY - timedelta(days=89), LAST_DAY
            ),
            "build page": lambda s: build_page(s, 1, last - 2 * self.turn),
            "team overview, 100 repositories, 30 days": lambda s: overview.load_overview(
                s, 1, LAST_DAY - timedelta(days=29), LAST_DAY
            ),
            "a day recomputed (the busiest)": lambda s: rollups.recompute_day(s, 1, busiest[self.turn % len(busiest)]),
        }

    def time(self, name: str) -> tuple[float, float]:
        """Ask for a page once: milliseconds that passed, and milliseconds of work here and in the database."""
        self.turn += 1
        is_writing = name.startswith("a day")
        with (transaction if is_writing else reading)(self.engine) as session:
            if is_writing:
                rollups.mark_all_days(session, 1)
            server = _server_clock(session)
            started, worked, served = time.perf_counter(), time.process_time(), server()
            self.pages[name](session)
            work = time.process_time() - worked + server() - served
            return (time.perf_counter() - started) * 1000, work * 1000


def _server_clock(session: Session) -> Callable[[], float]:
    """Reads the seconds that the database's process has worked for us; SQLite works in this one."""
    if session.connection().dialect.name != "postgresql":
        return lambda: 0.0
    path = Path(f"/proc/{session.execute(text('SELECT pg_backend_pid()')).scalar()}/schedstat")
    return lambda: int(path.read_text().split()[0]) / 1e9 if path.exists() else 0.0


def measure(installations: list[Installation], runs: int) -> dict[str, list[list[tuple[float, float]]]]:
    """Time every page on every size in turn, so that whatever else the machine does meets all of them alike."""
    times: dict[str, list[list[tuple[float, float]]]] = {}
    for name in installations[0].pages:
        times[name] = [[] for _ in installations]
        count = runs if "page" in name else max(runs // 4, 5)
        for number in range(count + 3):
            for taken, installation in zip(times[name], installations, strict=True):
                measured = installation.time(name)
                if number >= 3:
                    taken.append(measured)
    return times


def report(
    sizes: list[int], results: Mapping[str, Sequence[Sequence[tuple[float, ...]]]], kinds: tuple[str, ...]
) -> None:
    """Print medians and 95th percentiles, and how they grow from the first size to the last."""
    for place, kind in enumerate(kinds):
        print(f"\n{kind + ', median / p95':<56}" + "".join(f"{size:>18,}" for size in sizes) + f"{'ratios':>18}")
        for name, times in results.items():
            values = [[measured[place] for measured in taken] for taken in times]
            ends = [(statistics.median(taken), statistics.quantiles(taken, n=20)[-1]) for taken in values]
            ratios = f"{ends[-1][0] / ends[0][0]:>10.2f} /{ends[-1][1] / ends[0][1]:>6.2f}"
            print(f"{name:<56}" + "".join(f"{middle:>9.1f} /{high:>7.1f}" for middle, high in ends) + ratios)


def explain(engine: Engine) -> None:
    """Print the plan of every statement of the page."""
    prefix = "EXPLAIN (ANALYZE, COSTS OFF) " if engine.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN "
    seen: list[tuple[str, object]] = []
    listen = lambda _c, _cursor, statement, parameters, _x, _many: seen.append((statement, parameters))  # noqa: E731
    event.listen(engine, "before_cursor_execute", listen)
    with reading(engine) as session:
        page(session, 1, 1, None, None)
    event.remove(engine, "before_cursor_execute", listen)
    with engine.connect() as connection:
        for statement, parameters in seen:
            print("\n" + " ".join(statement.split())[:300])
            for row in connection.exec_driver_sql(prefix + statement, parameters):  # type: ignore[arg-type]
                print("   ", row[-1])


def sign_in(engine: Engine) -> tuple[str, str]:
    """Let somebody be a member of the filled team; returns its slug and the cookie of their session."""
    token = make_link_token()
    with transaction(engine) as session:
        team = session.scalars(select(Team).order_by(Team.id)).first()
        assert team is not None
        user = accounts.create_user(session, email="a@example.com", name="A", password_hash="-")
        teams.add_member(session, team.id, user.id, "owner")
        expires_at = datetime.now(UTC) + timedelta(days=1)
        session.add(
            UserSession(token_hash=hash_token(token), user_id=user.id, expires_at=expires_at, address="", user_agent="")
        )
        return team.slug, f"{SESSION_COOKIE}={token}"


@contextmanager
def served(engine: Engine) -> Iterator[Callable[[str], float]]:
    """Serve the web application on a filled database; yields what asks for a page and returns its milliseconds."""
    slug, cookie = sign_in(engine)
    folder = Path(tempfile.mkdtemp(prefix="cachescope-benchmark-"))
    port = chaos.free_port()
    installation = serving.Installation(folder, engine.url.render_as_string(hide_password=False), port)
    try:
        installation.start("web")
        serving.wait_for(lambda: installation.is_up("web"), f"the web process; see {folder}")
        with httpx.Client(base_url=installation.url, headers={"Cookie": cookie}, timeout=60) as client:

            def ask(path: str) -> float:
                started = time.perf_counter()
                answer = client.get(path.format(team=slug))
                taken = (time.perf_counter() - started) * 1000
                if answer.status_code != 200:
                    raise SystemExit(f"{path} answered {answer.status_code}")
                return taken

            yield ask
    finally:
        installation.stop()
        shutil.rmtree(folder)


def measure_http(engines: list[Engine], runs: int) -> dict[str, list[list[tuple[float]]]]:
    """Time whole pages over loopback, every size in turn."""
    period = f"from={LAST_DAY - timedelta(days=89)}&to={LAST_DAY}"
    paths = {
        "HTTP: repository page, half of all builds": "/teams/{team}/repositories/1?" + period,
        "HTTP: repository page, another repository": "/teams/{team}/repositories/50?" + period,
        "HTTP: repository page, no period": "/teams/{team}/repositories/1",
    }
    times: dict[str, list[list[tuple[float]]]] = {}
    with ExitStack() as stack:
        asks = [stack.enter_context(served(engine)) for engine in engines]
        for name, path in paths.items():
            times[name] = [[] for _ in asks]
            for number in range(runs + 5):
                for taken, ask in zip(times[name], asks, strict=True):
                    milliseconds = ask(path)
                    if number >= 5:
                        taken.append((milliseconds,))
    return times


@contextmanager
def database(kind: str) -> Iterator[Callable[[], str]]:
    """Yields a function that makes an empty database and returns its URL."""
    if kind == "sqlite":
        folder = Path(tempfile.mkdtemp(prefix="cachescope-benchmark-"))
        try:
            yield lambda: f"sqlite:///{folder}/{uuid4().hex}.db"
        finally:
            shutil.rmtree(folder)
        return
    with servers.postgresql() if kind == "postgresql" else _given(kind) as server:
        admin = make_engine(server)

        def create() -> str:
            name = f"benchmark_{uuid4().hex[:8]}"
            with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(text(f'CREATE DATABASE "{name}"'))
            return admin.url.set(database=name).render_as_string(hide_password=False)

        yield create
        admin.dispose()


@contextmanager
def _given(url: str) -> Iterator[str]:
    yield url


def main() -> None:
    """Fill, time, and print a table with the ratio of the last size to the first."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--builds", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--database", default="postgresql")
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--explain", action="store_true")
    arguments = parser.parse_args()
    with database(arguments.database) as create:
        installations = []
        for count in arguments.builds:
            engine = make_engine(create())
            migrations.upgrade(engine)
            started = time.perf_counter()
            fill(engine, count)
            taken = time.perf_counter() - started
            print(f"{engine.dialect.name}: {count:,} builds with {count * STEPS:,} steps in {taken:.0f} s")
            installations.append(Installation(engine))
        results = measure(installations, arguments.runs)
        over_http = measure_http([installation.engine for installation in installations], arguments.runs)
        for installation in installations:
            if arguments.explain:
                explain(installation.engine)
            installation.engine.dispose()
    report(arguments.builds, results, ("milliseconds that passed", "milliseconds of work, database included"))
    report(arguments.builds, over_http, ("milliseconds until the page was there",))


if __name__ == "__main__":
    main()
