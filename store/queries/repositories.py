"""Repositories and their images."""

from collections.abc import Sequence

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from store.database import insert
from store.models import (
    Break,
    Build,
    BuildImage,
    DailyBuilds,
    DailyImages,
    DailyInstructions,
    Delivery,
    DirtyDay,
    Image,
    Instruction,
    Repository,
    Run,
    Step,
    StepText,
)
from store.queries.rollups import mark_all_days

LONGEST_NAME = 200
"""In characters: PostgreSQL's indexes take a name of at most 2,700 bytes, and a page cannot show more either."""

USUAL_DEFAULT_BRANCHES = ("main", "master", "trunk")


def find_repository(session: Session, team_id: int, name: str) -> Repository | None:
    """The repository of a team with a name."""
    return session.scalar(select(Repository).where(Repository.team_id == team_id, Repository.name == name))


def load_repository(session: Session, team_ids: Sequence[int], repository_id: int) -> Repository | None:
    """A repository by its number, if one of some teams owns it."""
    return session.scalar(select(Repository).where(Repository.id == repository_id, Repository.team_id.in_(team_ids)))


def list_repositories(session: Session, team_id: int) -> Sequence[Repository]:
    """The repositories of a team by name."""
    return session.scalars(
        select(Repository).where(Repository.team_id == team_id).order_by(Repository.name, Repository.id)
    ).all()


def get_or_create_repository(
    session: Session, team_id: int, name: str, *, default_branch: str | None = None, url: str | None = None
) -> Repository:
    """Return the repository of a team with a name; the first log that names it makes it."""
    found = find_repository(session, team_id, name)
    if found is None:
        session.execute(
            insert(session, Repository)
            .values(team_id=team_id, name=name, default_branch=default_branch or "main", url=url)
            .on_conflict_do_nothing()
        )
        found = session.scalars(select(Repository).where(Repository.team_id == team_id, Repository.name == name)).one()
    if url and not found.url:
        found.url = url
    return found


def set_default_branch(session: Session, repository: Repository, branch: str) -> None:
    """Change the default branch: builds are sorted into branch classes again, and all days are recomputed."""
    if repository.default_branch == branch:
        return
    repository.default_branch = branch
    session.flush()
    for is_default, branch_class in ((True, "default"), (False, "branch")):
        on_branch = Build.branch.in_((branch, "")) if is_default else Build.branch.not_in((branch, ""))
        of_class = (
            select(Build.id)
            .where(Build.repository_id == repository.id, Build.branch_class != "pull_request", on_branch)
            .scalar_subquery()
        )
        for table in (Break, BuildImage):
            session.execute(
                update(table)
                .where(table.build_id.in_(of_class))
                .values(branch_class=branch_class)
                .execution_options(synchronize_session=False)
            )
        session.execute(
            update(Build)
            .where(Build.repository_id == repository.id, Build.branch_class != "pull_request", on_branch)
            .values(branch_class=branch_class)
            .execution_options(synchronize_session=False)
        )
    mark_all_days(session, repository.id)


def delete_repository(session: Session, repository: Repository) -> None:
    """Delete a repository with its builds; raw logs that nobody else refers to are left for housekeeping."""
    builds = select(Build.id).where(Build.repository_id == repository.id).scalar_subquery()
    session.execute(delete(Step).where(Step.build_id.in_(builds)).execution_options(synchronize_session=False))
    # Children first: a cascade from the repository would look every row up by itself.
    for table in (
        Break,
        BuildImage,
        DailyInstructions,
        DailyImages,
        DailyBuilds,
        DirtyDay,
        Build,
        Run,
        StepText,
        Instruction,
        Image,
        Delivery,
    ):
        session.execute(
            delete(table).where(table.repository_id == repository.id).execution_options(synchronize_session=False)
        )
    session.expire_all()
    session.delete(session.get_one(Repository, repository.id))
    session.flush()


def list_images(session: Session, repository_id: int) -> Sequence[Image]:
    """The images of a repository by name."""
    return session.scalars(
        select(Image).where(Image.repository_id == repository_id).order_by(Image.name, Image.platform, Image.id)
    ).all()


def get_or_create_image(
    session: Session, repository_id: int, *, dockerfile: str, target: str, platform: str, name: str
) -> Image:
    """Return the image with a key; the first build of it makes it and gives it the name that pages show."""
    key = {
        "repository_id": repository_id,
        "dockerfile": dockerfile[:LONGEST_NAME],
        "target": target[:LONGEST_NAME],
        "platform": platform[:LONGEST_NAME],
    }
    found = session.scalar(select(Image).filter_by(**key))
    if found is None:
        session.execute(insert(session, Image).values(**key, name=name[:LONGEST_NAME]).on_conflict_do_nothing())
        found = session.scalars(select(Image).filter_by(**key)).one()
    return found
