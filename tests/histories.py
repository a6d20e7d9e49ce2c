"""Real histories: the logs of one image over several commits with the Dockerfile and the files that belong to them."""

import json
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy.orm import Session

from cachescope.reading import read_builds
from cachescope.surroundings import FileMark, Surroundings
from store.logs import open_logs, write_log
from store.models import Repository
from store.queries import evidence, logs, readings
from store.queries.runs import RunFacts
from tests.factories import make_delivery

RECOMMENDATIONS = Path(__file__).parent / "cachescope" / "recommendations"
PYTHON = RECOMMENDATIONS / "copy_before_install" / "python_whole_context"


def save_history(
    session: Session,
    repository: Repository,
    *,
    folder: Path = PYTHON,
    last: datetime,
    dockerfile: str | None = None,
    has_evidence: bool = True,
    logs_kept: bool = False,
) -> list[int]:
    """Save the builds of a fixture, one a day, the last at a moment; returns their ids."""
    history = json.loads((folder / "history.json").read_text())
    files = {path: FileMark("0", size) for path, size in history["files"].items()} if history["files"] else None
    paths = sorted(folder.glob("*.log"))
    ids = []
    for number, path in enumerate(paths):
        for _, changed in (history["changes"][number] or ()) if files else ():
            files = {**(files or {}), changed: FileMark(str(number), 10)}
        content = path.read_bytes()
        kept = {}
        if logs_kept:
            written = write_log(open_logs(), [content])
            logs.save_log(session, written)
            kept = {"log_digest": written.digest, "log_bytes": len(content)}
        at = last - timedelta(days=len(paths) - 1 - number)
        delivery = make_delivery(session, repository, state="done", received_at=at, **kept)
        if has_evidence:
            known = Surroundings(
                dockerfiles={"": dockerfile or (folder / "Dockerfile").read_text()},
                dockerfile_path="Dockerfile",
                dockerignore="",
                command=("docker", "build", "."),
                files=files,
                texts=history.get("texts") or {},
            )
            evidence.save_evidence(session, delivery.id, repository.id, known)
        facts = RunFacts(branch="main", commit_id=f"{number:040x}", started_at=at)
        ids += readings.save_reading(session, delivery, repository, read_builds([content]), facts)
    return ids
