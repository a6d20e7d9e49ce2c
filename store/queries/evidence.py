"""Evidence: what was sent with a log besides it, and what that tells about a build and its baseline."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from backports import zstd
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from cachescope.errors import InvalidValueError
from cachescope.evidence import Evidence
from cachescope.surroundings import Surroundings, evidence_between, read_surroundings, write_surroundings
from store.database import insert
from store.models import Build, BuildEvidence, EvidenceText

KEPT_LISTS = 60
"""Lists of files are large: those of so many logs of a repository are kept, to tell what changed since."""
_TEXTS = ("dockerignore", "bake")
_MAPS = ("dockerfiles", "texts")


def save_evidence(session: Session, delivery_id: str, repository_id: int, found: Surroundings) -> None:
    """Store the evidence of a delivery; what was known before is replaced. Equal texts are stored once."""
    document = write_surroundings(found)
    files = document.pop("files", None)
    ids = _save_texts(session, repository_id, [*_texts_of(document)])
    for name in _TEXTS:
        if name in document:
            document[name] = ids[document[name]]
    for name in _MAPS:
        if name in document:
            document[name] = {key: ids[text] for key, text in document[name].items()}
    values = {
        "repository_id": repository_id,
        "document": document,
        "files": zstd.compress(orjson.dumps(files), 9) if files is not None else None,
        "created_at": datetime.now(UTC),
    }
    statement = insert(session, BuildEvidence).values(delivery_id=delivery_id, **values)
    session.execute(statement.on_conflict_do_update(index_elements=["delivery_id"], set_=values))
    _forget_old_lists(session, repository_id)


def _texts_of(document: Mapping[str, Any]) -> list[str]:
    single = [document[name] for name in _TEXTS if name in document]
    return [*single, *(text for name in _MAPS for text in document.get(name, {}).values())]


def _save_texts(session: Session, repository_id: int, texts: Sequence[str]) -> dict[str, int]:
    hashes = {text: hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32] for text in texts}
    if not hashes:
        return {}
    rows = [
        {"repository_id": repository_id, "text_hash": key, "text": text}
        for text, key in sorted(hashes.items(), key=lambda item: item[1])
    ]
    session.execute(insert(session, EvidenceText).values(rows).on_conflict_do_nothing())
    known: dict[str, int] = dict(
        session.execute(
            select(EvidenceText.text_hash, EvidenceText.id).where(
                EvidenceText.repository_id == repository_id, EvidenceText.text_hash.in_(sorted(hashes.values()))
            )
        ).all()
    )
    return {text: known[key] for text, key in hashes.items()}


def _forget_old_lists(session: Session, repository_id: int) -> None:
    of_repository = (BuildEvidence.repository_id == repository_id, BuildEvidence.files.is_not(None))
    oldest = session.scalar(
        select(BuildEvidence.created_at)
        .where(*of_repository)
        .order_by(BuildEvidence.created_at.desc())
        .offset(KEPT_LISTS)
        .limit(1)
    )
    if oldest is not None:
        session.execute(
            update(BuildEvidence)
            .where(*of_repository, BuildEvidence.created_at <= oldest)
            .values(files=None)
            .execution_options(synchronize_session=False)
        )


def load_evidence(session: Session, delivery_ids: Sequence[str]) -> dict[str, Surroundings]:
    """What was sent with some deliveries; those that came alone are missing."""
    rows = session.scalars(select(BuildEvidence).where(BuildEvidence.delivery_id.in_(delivery_ids))).all()
    wanted = {text_id for row in rows for text_id in _texts_of(row.document)}
    texts: dict[int, str] = dict(
        session.execute(select(EvidenceText.id, EvidenceText.text).where(EvidenceText.id.in_(sorted(wanted)))).all()
    )
    return {row.delivery_id: _read(row, texts) for row in rows}


def _read(row: BuildEvidence, texts: Mapping[int, str]) -> Surroundings:
    document = dict(row.document)
    for name in _TEXTS:
        if name in document:
            document[name] = texts.get(document[name])
    for name in _MAPS:
        if name in document:
            document[name] = {key: texts[text_id] for key, text_id in document[name].items() if text_id in texts}
    if row.files is not None:
        document["files"] = orjson.loads(zstd.decompress(row.files))
    try:
        return read_surroundings(document)
    except InvalidValueError:
        # Stored under other limits: a page or a comparison without it is better than none.
        return Surroundings()


def find_evidence(session: Session, build: Build) -> Surroundings | None:
    """What was sent with the log of a build; None where it came alone."""
    return load_evidence(session, [build.delivery_id]).get(build.delivery_id)


def load_evidence_between(session: Session, delivery_id: str, baseline: Build | None) -> Evidence:
    """What was sent with a log and with that of its baseline, as the comparison of the two reads it."""
    ids = [delivery_id, *([baseline.delivery_id] if baseline is not None else [])]
    found = load_evidence(session, ids)
    after = found.get(delivery_id)
    if baseline is None:
        return evidence_between(None, after, None)
    return evidence_between(found.get(baseline.delivery_id), after, baseline.commit_id)
