"""`cachescope advise`: past logs and a Dockerfile in, recommendations with patches out."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

CASES = Path(__file__).resolve().parents[1] / "recommendations"
FIELDS = ["name", "title", "why", "evidence", "patch", "order_safe", "saving_seconds_per_build", "interval"]


def git(folder: Path, *words: str, **fields) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, **fields)


def advise(cachescope, *arguments) -> list[dict]:
    done = cachescope("advise", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["recommendations"]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A checkout with the commits that the logs of the case were built from."""
    case = CASES / "copy_before_install" / "python_whole_context"
    known = json.loads((case / "history.json").read_text())
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    files = dict.fromkeys(known["files"], "x\n") | known["texts"] | {"Dockerfile": (case / "Dockerfile").read_text()}
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "first")
    for number, changed in enumerate(known["changes"][1:]):
        for _, name in changed:
            (folder / name).write_text(files[name] + f"# {number}\n")
        git(folder, "commit", "-q", "-a", "-m", "next")
    return folder


def logs_of(case: str) -> list[Path]:
    return sorted((CASES / case).glob("*.log"))


def test_a_patch_applies_and_its_saving_has_an_interval(cachescope, repository) -> None:
    found = advise(
        cachescope, "--dockerfile", repository / "Dockerfile", "--repository", repository,
        *logs_of("copy_before_install/python_whole_context"),
    )  # fmt: skip
    first = found[0]
    assert list(first) == FIELDS
    assert first["name"] == "copy_before_install"
    assert first["order_safe"]
    low, high = first["interval"]
    assert 0 < low < first["saving_seconds_per_build"] < high
    git(repository, "apply", "-", input=first["patch"].encode())
    assert "COPY requirements.txt ./\nRUN pip install" in (repository / "Dockerfile").read_text()


def test_without_a_repository_a_build_must_check_the_edit(cachescope, tmp_path) -> None:
    case = CASES / "copy_before_install" / "python_whole_context"
    (tmp_path / "Dockerfile").write_text((case / "Dockerfile").read_text())
    found = advise(cachescope, "--dockerfile", "Dockerfile", *logs_of("copy_before_install/python_whole_context"))
    assert [r["order_safe"] for r in found if r["name"] == "copy_before_install"] == [False]


def test_commits_that_the_logs_do_not_fit_are_not_used(cachescope, repository) -> None:
    git(repository, "commit", "-q", "--allow-empty", "-m", "one more, that nothing built")
    arguments = ["--dockerfile", repository / "Dockerfile", "--repository", repository]
    found = advise(cachescope, *arguments, *logs_of("copy_before_install/python_whole_context"))
    low, high = found[0]["interval"]
    assert low < found[0]["saving_seconds_per_build"] < high


def test_a_folder_without_git_is_read_too(cachescope, repository) -> None:
    shutil.rmtree(repository / ".git")
    arguments = ["--dockerfile", repository / "Dockerfile", "--repository", repository]
    found = advise(cachescope, *arguments, *logs_of("copy_before_install/python_whole_context"))
    assert found[0]["order_safe"]


def test_the_path_of_a_patch_is_relative_to_the_context(cachescope, repository) -> None:
    (repository / "docker").mkdir()
    (repository / "Dockerfile").rename(repository / "docker" / "Dockerfile")
    arguments = ["--dockerfile", repository / "docker" / "Dockerfile", "--repository", repository]
    found = advise(cachescope, *arguments, *logs_of("copy_before_install/python_whole_context"))
    assert "+++ b/docker/Dockerfile" in found[0]["patch"]


def test_the_report_is_readable(cachescope, repository) -> None:
    done = cachescope(
        "advise", "--dockerfile", repository / "Dockerfile", *logs_of("copy_before_install/python_whole_context")
    )
    text = done.stdout.decode()
    assert "Copy requirements.txt before the pip install" in text
    assert "Check it with a build." in text
    assert "+COPY requirements.txt ./" in text


def test_a_well_made_dockerfile_needs_no_advice(cachescope) -> None:
    case = CASES / "well_made" / "static_site"
    arguments = ["--dockerfile", case / "Dockerfile", "--dockerignore", case / "dockerignore"]
    assert advise(cachescope, *arguments, *logs_of("well_made/static_site")) == []
    done = cachescope("advise", *arguments, *logs_of("well_made/static_site"))
    assert b"Nothing to recommend" in done.stdout


def test_what_cannot_be_read_is_said_in_a_sentence(cachescope, tmp_path) -> None:
    (tmp_path / "empty.log").write_text("nothing\n")
    (tmp_path / "Dockerfile").write_text("FROM a\n")
    done = cachescope("advise", "--dockerfile", "Dockerfile", "empty.log")
    assert (done.returncode, done.stderr.decode().strip()) == (2, "There is no build in these logs.")


# -- what if -----------------------------------------------------------------------------------------------------------


def what_if(cachescope, tmp_path: Path, edited: str, *options, logs: int | None = None):
    case = CASES / "copy_before_install" / "python_whole_context"
    (tmp_path / "edited").write_text(edited)
    chosen = sorted(case.glob("*.log"))[:logs]
    arguments = ["--dockerfile", case / "Dockerfile", "--what-if", tmp_path / "edited", *options, *chosen]
    return cachescope("advise", *arguments)


BETTER = "FROM toolbox:1\nWORKDIR /app\nCOPY requirements.txt ./\nRUN pip install -q -r requirements.txt\nCOPY . .\n"


def test_an_edited_dockerfile_is_replayed_before_anyone_builds(cachescope, tmp_path) -> None:
    done = what_if(cachescope, tmp_path, f"{BETTER}RUN never --seen\n", "--json")
    found = json.loads(done.stdout)["what_if"]
    low, high = found["interval"]
    assert found["builds"] == 8
    assert found["seconds_after"] < found["seconds_before"]
    assert low < found["saving_seconds_per_build"] < high
    assert found["hits_after"] > found["hits_before"]
    assert found["lines_never_timed"] == ["RUN never --seen"]


def test_a_prediction_is_told_in_words(cachescope, tmp_path) -> None:
    said = what_if(cachescope, tmp_path, f"{BETTER}RUN never --seen\n").stdout.decode()
    assert "8 builds would have spent" in said
    assert "Saving per build:" in said
    assert "Never seen to run, counted as nothing: RUN never --seen" in said


def test_an_edited_ignore_file_is_replayed(cachescope, repository, tmp_path) -> None:
    (tmp_path / "ignore").write_text("README.md\n")
    case = CASES / "copy_before_install" / "python_whole_context"
    options = ["--dockerfile", repository / "Dockerfile", "--repository", repository]
    done = cachescope(
        "advise", "--json", *options, "--what-if-dockerignore", tmp_path / "ignore", *sorted(case.glob("*.log"))
    )
    found = json.loads(done.stdout)["what_if"]
    assert found["seconds_after"] <= found["seconds_before"]
    assert found["steps_before"] == found["steps_after"]


def test_a_replay_without_stages_or_builds_says_what_it_needs(cachescope, tmp_path) -> None:
    without_stage = what_if(cachescope, tmp_path, "# nothing\n")
    assert (without_stage.returncode, b"no FROM line" in without_stage.stderr) == (2, True)
    alone = what_if(cachescope, tmp_path, BETTER, logs=1)
    assert (alone.returncode, b"two builds" in alone.stderr) == (2, True)
