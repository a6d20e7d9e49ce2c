"""The data folder of a local server: private, with keys of its own, for one server at a time."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cachescope.errors import SettingsError
from service.local import DataFolder, adopt_local_settings, process_start


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DataFolder]:
    """A new data folder that the settings name."""
    for name in ("CACHESCOPE_SECRET_KEY", "CACHESCOPE_WORKER_QUEUE_FOLDER", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CACHESCOPE_DATA", str(tmp_path / "data"))
    new = DataFolder()
    new.prepare()
    yield new
    new.release()


def mode(path: Path) -> str:
    """The permissions of a path as people write them."""
    return stat.filemode(path.stat().st_mode)


def test_nobody_else_can_look_into_it(folder: DataFolder) -> None:
    folder.environment()
    folder.acquire()
    assert mode(folder.path) == "drwx------"
    assert mode(folder.path / "secret_key") == "-rw-------"
    assert mode(folder.path / "up.json") == "-rw-------"


def test_a_folder_that_was_open_to_others_is_closed(folder: DataFolder) -> None:
    folder.path.chmod(0o755)
    folder.prepare()
    assert mode(folder.path) == "drwx------"


def test_the_key_is_made_once(folder: DataFolder) -> None:
    first = folder.environment()["CACHESCOPE_SECRET_KEY"]
    assert len(first) >= 32
    assert DataFolder().environment()["CACHESCOPE_SECRET_KEY"] == first


def test_two_folders_have_different_keys(folder: DataFolder, tmp_path: Path) -> None:
    other = DataFolder(tmp_path / "other")
    other.prepare()
    assert other.environment()["CACHESCOPE_SECRET_KEY"] != folder.environment()["CACHESCOPE_SECRET_KEY"]


def test_a_key_of_the_settings_wins_and_a_placeholder_does_not(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHESCOPE_SECRET_KEY", "k" * 40)
    assert folder.environment()["CACHESCOPE_SECRET_KEY"] == "k" * 40
    monkeypatch.setenv("CACHESCOPE_SECRET_KEY", "Change-Me")
    assert len(folder.environment()["CACHESCOPE_SECRET_KEY"]) >= 32


def test_a_second_server_is_told_where_the_first_one_is(folder: DataFolder) -> None:
    folder.acquire()
    folder.remember({}, url="http://localhost:8123")
    with pytest.raises(SettingsError, match=r"already runs on .* at http://localhost:8123\. Stop it first"):
        DataFolder().acquire()


def test_the_claim_ends_with_the_process(folder: DataFolder) -> None:
    program = "from service.local import DataFolder; DataFolder().acquire()"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])
    folder.acquire()


def test_children_of_a_killed_server_are_ended(folder: DataFolder) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    folder.remember({"worker": child.pid})
    folder.acquire()
    assert child.wait(timeout=5) == -9


def test_a_process_that_got_the_number_of_a_dead_child_lives_on(folder: DataFolder) -> None:
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    folder.remember({"worker": other.pid})
    state = folder.path / "up.json"
    state.write_text(state.read_text().replace(str(process_start(other.pid)), "12"))
    folder.acquire()
    assert other.poll() is None
    other.kill()
    other.wait()


def test_a_state_file_that_was_cut_is_no_obstacle(folder: DataFolder) -> None:
    (folder.path / "up.json").write_text('{"url": "http')
    folder.acquire()
    assert folder.state()["children"] == {}


def test_whether_it_runs_can_be_asked_from_outside(folder: DataFolder) -> None:
    assert not DataFolder().is_running()
    folder.acquire()
    assert DataFolder().is_running()


def test_another_terminal_gets_the_settings_of_the_running_server(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.acquire()
    folder.remember({}, environment={"REDIS_URL": "redis+socket:///tmp/q.sock"})
    monkeypatch.setattr(os, "environ", dict(os.environ))
    adopt_local_settings()
    assert os.environ["REDIS_URL"] == "redis+socket:///tmp/q.sock"
    assert os.environ["CACHESCOPE_SECRET_KEY"] == folder.environment()["CACHESCOPE_SECRET_KEY"]


def test_settings_of_ones_own_win_over_those_of_the_folder(folder: DataFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {**os.environ, "CACHESCOPE_SECRET_KEY": "o" * 40})
    adopt_local_settings()
    assert os.environ["CACHESCOPE_SECRET_KEY"] == "o" * 40


def test_without_a_folder_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHESCOPE_DATA", str(tmp_path / "nothing"))
    adopt_local_settings()
    assert not (tmp_path / "nothing").exists()


def test_there_is_no_start_of_a_process_that_does_not_exist() -> None:
    assert process_start(2**22 - 3) is None
