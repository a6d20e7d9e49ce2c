"""The archive of a run: the logs of its jobs in one zip, read in place under caps and never unpacked to disk."""

import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack

from cachescope.errors import TooLargeError, UnreadableInputError
from integrations.ci._api import NeverError

MOST_ENTRIES = 5000
RATIO_CAP = 200
RATIO_FREE = 1 << 20
_PIECE = 256 * 1024
_IN_MEMORY = 4 << 20
_MARKS = re.compile(r"[^a-z0-9]+")
_WHOLE_JOB = re.compile(r"-?[0-9]{1,6}_([^/\\]{1,300})\.txt\Z")


def read_archive(pieces: Iterator[bytes], job: str, cap_bytes: int) -> Iterator[bytes]:
    """Read the log of a job out of a zip; an empty `job` stands for all of them, one after another.

    Whole jobs lie at the top as `3_image.txt`, their single steps in folders. Raises NeverError when the job is not
    there, TooLargeError past a cap and UnreadableInputError for what is no zip.
    """
    with ExitStack() as opened:
        file = opened.enter_context(tempfile.SpooledTemporaryFile(_IN_MEMORY))
        for piece in pieces:
            file.write(piece)
        file.seek(0)
        try:
            archive = opened.enter_context(zipfile.ZipFile(file))
            entries = _chosen(archive.infolist(), job)
            left = cap_bytes
            for entry in entries:
                for piece in _read(archive, entry, left):
                    left -= len(piece)
                    yield piece
                yield b"\n"
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise UnreadableInputError(f"The archive of the run cannot be read: {str(error)[:120]}.") from error


def _chosen(entries: list[zipfile.ZipInfo], job: str) -> list[zipfile.ZipInfo]:
    if len(entries) > MOST_ENTRIES:
        raise TooLargeError(f"The archive of the run holds more than {MOST_ENTRIES:,} files.")
    whole = {entry: found[1] for entry in entries if (found := _WHOLE_JOB.match(entry.filename))}
    if not job:
        return list(whole)
    wanted = _plain(job)
    fitting = [(len(_plain(name)), entry) for entry, name in whole.items() if wanted.endswith(_plain(name))]
    if not fitting:
        raise NeverError("Its log was deleted or never written, and the archive of the run does not hold it either.")
    return [max(fitting, key=lambda pair: pair[0])[1]]


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, left: int) -> Iterator[bytes]:
    read = 0
    with archive.open(entry) as file:
        while piece := file.read(_PIECE):
            read += len(piece)
            if read > left:
                raise TooLargeError("The logs in the archive of the run are larger than a log may be.")
            if read > max(RATIO_FREE, entry.compress_size * RATIO_CAP):
                raise TooLargeError(f"The archive unpacks to more than {RATIO_CAP} times its size: no log does.")
            yield piece


def _plain(name: str) -> str:
    """A name without what file names leave out; of another writing than Latin, the name itself."""
    return _MARKS.sub("", name.lower()) or name
