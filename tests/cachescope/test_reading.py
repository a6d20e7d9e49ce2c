"""The reading core: pieces, wrappers, several builds, documents, and what it does with hostile input."""

import gc
import gzip
import io
import json
import sys
import tarfile
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cachescope.formats
from cachescope import reading
from cachescope.formats import FORMATS
from cachescope.formats.base import DocumentFormat, FoundBuild
from cachescope.model import Build, Outcome
from cachescope.plugins import discover
from cachescope.reading import LINE_CAP, LogReader, read_builds

FORMATS_FOLDER = Path(__file__).parent / "formats"
PLAIN = (FORMATS_FOLDER / "buildkit_plain" / "failed_cache_import.log").read_bytes()
OTHER = (FORMATS_FOLDER / "buildkit_plain" / "bake_one_target_failed.log").read_bytes()
RECORD = (FORMATS_FOLDER / "buildkit_record" / "failed.dockerbuild").read_bytes()


def instructions(build):
    return [(step.stage, step.text, step.status, step.duration_seconds) for step in build.steps if step.instruction]


def only(log):
    (build,) = read_builds([log]).builds
    return build


# -- pieces --------------------------------------------------------------------------------------------------------


def test_an_empty_log_has_no_builds():
    assert read_builds([]).builds == ()
    assert read_builds([b""]).lines == 0


def test_lines_are_counted_with_the_last_one_without_an_end():
    assert read_builds([b"a\nb\nc"]).lines == 3
    assert read_builds([b"a\nb\nc\n"]).lines == 3


def test_a_line_of_megabytes_is_read_up_to_the_cap_and_said():
    log = b"x" * (3 * LINE_CAP) + b"\n" + PLAIN
    result = read_builds(log[start : start + 100_000] for start in range(0, len(log), 100_000))
    assert result.warnings == ("1 line is longer than 256 KiB and read only up to there.",)
    assert instructions(result.builds[0]) == instructions(only(PLAIN))


def test_long_lines_inside_one_chunk_are_cut_too():
    log = PLAIN + b"y" * (LINE_CAP + 10) + b"\nend\n" + b"z" * (LINE_CAP + 10)
    result = read_builds([log])
    assert "longer than 256 KiB" in result.warnings[0]
    assert instructions(result.builds[0]) == instructions(only(PLAIN))


def test_a_log_in_utf_16_is_read():
    assert instructions(only(PLAIN.decode().encode("utf-16"))) == instructions(only(PLAIN))


def test_a_byte_order_mark_is_no_text():
    assert instructions(only(b"\xef\xbb\xbf" + PLAIN)) == instructions(only(PLAIN))


def test_a_growing_log_can_be_asked_at_any_time():
    reader = LogReader()
    seen = []
    for line in PLAIN.splitlines(keepends=True):
        reader.feed(line)
        seen.append(reader.reading())
    reader.finish()
    counts = [sum(len(build.steps) for build in result.builds) for result in seen]
    assert counts == sorted(counts)
    assert seen[len(seen) // 2].builds[0].outcome is Outcome.INCOMPLETE
    assert reader.reading().builds == read_builds([PLAIN]).builds


def test_a_build_far_down_in_other_output_is_found():
    noise = b"".join(b"2026-11-23 compiling module %d of many\n" % number for number in range(40_000))
    result = read_builds([noise + PLAIN])
    assert instructions(result.builds[0]) == instructions(only(PLAIN))
    assert result.builds[0].line == 40_001


def test_a_wrapper_that_begins_late_is_taken():
    noise = b"".join(b"compiling module %d of many\n" % number for number in range(40_000))
    stamped = b"".join(b"2026-11-23T17:05:50.5824892Z " + line for line in PLAIN.splitlines(keepends=True))
    result = read_builds([noise[:600_000], noise[600_000:] + stamped * 30])
    assert result.wrapper == "github-actions"
    assert instructions(result.builds[0]) == instructions(only(PLAIN))


# -- several builds ------------------------------------------------------------------------------------------------


def test_builds_one_after_another_keep_their_steps():
    result = read_builds([PLAIN + b"some other command\n" + OTHER])
    assert [instructions(build) for build in result.builds] == [instructions(only(PLAIN)), instructions(only(OTHER))]


def test_builds_mixed_block_by_block_keep_their_steps():
    blocks = [log.split(b"\n\n") for log in (PLAIN, OTHER)]
    mixed = [block for pair in zip(*blocks, strict=False) for block in pair]
    longest = max(blocks, key=len)
    mixed += longest[min(map(len, blocks)) :]
    result = read_builds([b"\n\n".join(mixed)])
    read = sorted(step for build in result.builds for step in map(repr, instructions(build)))
    assert read == sorted(repr(step) for log in (PLAIN, OTHER) for step in instructions(only(log)))


def test_channels_of_a_wrapper_are_read_apart():
    left, right = PLAIN.splitlines(), OTHER.splitlines()
    lines = []
    for number in range(max(len(left), len(right))):
        lines += [b'Step #0 - "one": ' + line for line in left[number : number + 1]]
        lines += [b'Step #1 - "two": ' + line for line in right[number : number + 1]]
    result = read_builds([b"\n".join(lines) + b"\n"])
    assert result.wrapper == "cloud-build"
    assert [instructions(build) for build in result.builds] == [instructions(only(PLAIN)), instructions(only(OTHER))]


def test_more_channels_than_any_ci_has_do_not_fill_the_memory():
    lines = b"".join(b"Step #%d: hello\n" % number for number in range(2_000))
    assert read_builds([lines]).builds == ()


def test_a_builders_words_inside_a_steps_output_are_no_build():
    inner = b"".join(b"#9 0.1 " + line + b"\n" for line in OTHER.splitlines())
    log = (
        b"#1 [internal] load build definition from Dockerfile\n#1 DONE 0.0s\n\n#9 [1/1] RUN cat log\n"
        + inner
        + b"#9 DONE 1.0s\n"
    )
    assert instructions(only(log)) == [(None, "RUN cat log", "done", 1.0)]


@pytest.mark.parametrize("step", [b"#8 DONE 9.9s", b"#8 ERROR: no", b"#9 [2/2] RUN evil"])
def test_output_without_a_last_line_end_imitates_nothing(step):
    output = b"#8 0.053 first\n#8 0.054 %b\n#8 0.060 last\n" % step
    log = b"#8 [1/2] RUN printf\n" + output + b"#8 DONE 0.1s\n\n#9 [2/2] RUN true\n#9 CACHED\n"
    assert [(text, status) for _, text, status, _ in instructions(only(log))] == [
        ("RUN printf", "done"),
        ("RUN true", "cached"),
    ]


def test_masked_numbers_still_tell_the_steps_apart():
    log = (
        b"#*** [internal] load build definition from Dockerfile\n#*** DONE 0.0s\n\n"
        b"#6 [builder ***/5] FROM docker.io/library/python:3.9-slim\n#6 DONE 5.0s\n\n"
        b"#***0 [stage-*** 2/6] WORKDIR /app\n#***0 CACHED\n\n"
        b"#****** [stage-*** 3/6] RUN make\n#****** 0.2***4 working\n#****** DONE ***.4s\n"
    )
    assert instructions(only(log)) == [
        ("builder", "FROM docker.io/library/python:3.9-slim", "done", 5.0),
        ("stage-***", "WORKDIR /app", "cached", None),
        ("stage-***", "RUN make", "done", None),
    ]


def test_of_builds_of_two_formats_the_one_inside_the_other_is_dropped():
    outer = Build(builder="docker", format="classic", outcome=Outcome.SUCCEEDED)
    inner = Build(builder="buildkit", format="buildkit-plain", outcome=Outcome.SUCCEEDED)
    later = Build(builder="buildah", format="buildah", outcome=Outcome.SUCCEEDED, line=31)
    found = [(0.9, FoundBuild(inner, 5, 9)), (0.5, FoundBuild(outer, 1, 20)), (0.4, FoundBuild(later, 31, 40))]
    assert [(build.format, build.line) for build in reading._merge(found)] == [("classic", 1), ("buildah", 31)]


def test_of_builds_that_overlap_the_surer_one_stays():
    sure = Build(builder="docker", format="classic", outcome=Outcome.SUCCEEDED)
    unsure = Build(builder=None, format="quiet", outcome=Outcome.SUCCEEDED)
    found = [(0.2, FoundBuild(unsure, 1, 10)), (0.9, FoundBuild(sure, 5, 20))]
    assert [build.format for build in reading._merge(found)] == ["classic"]


# -- documents -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 1000, 10**6])
def test_a_record_is_recognised_by_its_first_bytes_packed_or_not(size):
    for content in (RECORD, gzip.decompress(RECORD)):
        result = read_builds(content[start : start + size] for start in range(0, len(content), size))
        assert [build.format for build in result.builds] == ["buildkit-record"]
        assert result.builds[0].outcome is Outcome.FAILED


def test_a_document_cut_in_the_middle_is_no_exception():
    for part in range(1, 30):
        for content in (RECORD, gzip.decompress(RECORD)):
            result = read_builds([content[: len(content) * part // 30]])
            assert len(result.builds) <= 1


def test_a_document_larger_than_the_cap_is_read_as_lines(monkeypatch):
    monkeypatch.setattr(reading, "DOCUMENT_CAP", 5_000)
    log = b'{"buildx.build.ref": "a/b/c",\n' + b" \n" * 3_000 + PLAIN
    assert instructions(only(log)) == instructions(only(PLAIN))


def test_a_bomb_is_refused_in_one_sentence():
    bomb = io.BytesIO()
    with tarfile.open(fileobj=bomb, mode="w") as archive:
        member = tarfile.TarInfo("blobs/sha256/" + "0" * 64)
        member.size = 30 * 1024 * 1024
        archive.addfile(member, io.BytesIO(bytes(member.size)))
    result = read_builds([gzip.compress(bomb.getvalue())])
    assert result.builds == ()
    assert result.warnings == ("The build record unpacks to more than 24 MiB.",)


def test_an_archive_without_a_record_has_no_builds():
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in [("index.json", b"{}"), ("oci-layout", b"x" * 5_000)]:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    assert read_builds([archive.getvalue()]).builds == ()


def test_the_json_of_circleci_is_unwrapped():
    text = PLAIN.decode().replace("\n", "\r\n")
    pieces = [text[start : start + 333] for start in range(0, len(text), 333)]
    answer = json.dumps([{"message": piece, "time": "2026-11-23T17:05:54.524Z", "type": "out"} for piece in pieces])
    result = read_builds(answer[start : start + 1000].encode() for start in range(0, len(answer), 1000))
    assert result.wrapper == "circleci"
    assert instructions(result.builds[0]) == instructions(only(PLAIN))


def test_json_that_only_begins_like_circlecis_is_left_alone():
    assert read_builds([b'[{"message": 1}, {"message": "\\ud800 x"}, {"type"']).builds == ()
    assert read_builds([b'[{"message": ' + b"[" * 5_000]).builds == ()


# -- plug-ins ------------------------------------------------------------------------------------------------------

MADE_UP = '''"""The made-up builder's log."""

from cachescope.formats.base import FoundBuild
from cachescope.model import Build, Outcome, Step, StepKind, StepStatus


class _Parser:
    def __init__(self):
        self._found = []

    def feed(self, chunk, first_line):
        for number, line in enumerate(chunk.split(b"\\n"), first_line):
            if line.startswith(b"MADEUP "):
                text = line[7:].decode()
                step = Step(kind=StepKind.OTHER, text=text, status=StepStatus.DONE, cached=False, cacheable=False)
                build = Build(builder="madeup", format="made-up", outcome=Outcome.SUCCEEDED, steps=(step,))
                self._found.append(FoundBuild(build, number, number))

    def builds(self):
        return self._found

    def warnings(self):
        return []


class _MadeUp:
    needles = (b"MADEUP ",)

    def sniff(self, head, prefix):
        return 0.5

    def parser(self, prefix):
        return _Parser()


FORMAT = _MadeUp()
'''


def test_a_new_format_is_one_file(tmp_path, monkeypatch):
    (tmp_path / "made_up.py").write_text(MADE_UP)
    monkeypatch.setattr(cachescope.formats, "__path__", [*cachescope.formats.__path__, str(tmp_path)])
    try:
        formats = discover(cachescope.formats, "FORMAT")
        monkeypatch.setattr(reading, "FORMATS", formats)
        build = only(b"hello\nMADEUP RUN magic\n")
    finally:
        sys.modules.pop("cachescope.formats.made_up", None)
    assert set(formats) == {*FORMATS, "made_up"}
    assert (build.format, build.steps[0].text) == ("made-up", "RUN magic")


def test_records_and_lone_ids_are_the_only_documents():
    documents = [name for name, log_format in FORMATS.items() if isinstance(log_format, DocumentFormat)]
    assert documents == ["buildkit_record", "quiet"]


# -- hostile input -------------------------------------------------------------------------------------------------

WORDS = st.sampled_from(
    [
        b'#0 building with "x" instance using docker driver\n',
        b"#1 [internal] load build definition from Dockerfile\n",
        b"#2 [build 1/3] FROM docker.io/library/a@sha256:00\n",
        b"#3 [2/3] RUN make\n",
        b"#3 0.123 output\n",
        b"#3 0.1 glued#3 DONE 0.2s\n",
        b"#3 DONE 1.0s\n",
        b"#3 CACHED\n",
        b'#3 ERROR: process "/bin/sh -c make" did not complete successfully: exit code: 1\n',
        b"#3 CANCELED\n",
        b"#3 ...\n",
        b"#*** [***/5] COPY a b\n",
        b"------\n",
        b" > [2/3] RUN make:\n",
        b"ERROR: failed to build: failed to solve: context canceled\n",
        b"Building web\n",
        b"[+] Building 1.0s (1/2)\n",
        b"[+] Building 2.0s (2/2) FINISHED\n",
        b" => [2/3] RUN make   1.0s\n",
        b" => => transferring context: 2B   0.0s\n",
        b" => ERROR [3/3] RUN x  0.1s\n",
        b"\x1b[1A\x1b[34m => CACHED [2/3] RUN make 0.0s\r\n",
        b'{"vertexes":[{"digest":"sha256:'
        + b"a" * 64
        + b'","name":"[1/2] RUN x","started":"2026-01-01T00:00:00Z"}]}\n',
        b'{"vertexes":[{"digest":5}, 7], "logs": {}, "statuses": [{"id": null}]}\n',
        b"\xef\xbb\xbf2026-11-23T17:05:49.6878781Z ##[group]Run x\n",
        b"2026-11-23T17:05:47.287878Z 00O+#3 DONE 1.0s\n",
        b"Step #0: #3 CACHED\n",
        b"\n",
        b"\r",
        b"\0\xff",
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(WORDS | st.binary(max_size=30), max_size=40))
def test_any_bytes_are_read_without_an_exception(parts):
    log = b"".join(parts)
    result = read_builds([log])
    assert all(build.steps is not None for build in result.builds)
    assert result == read_builds([log[: len(log) // 2], log[len(log) // 2 :]])


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_flipped_bytes_in_a_record_are_no_exception(data):
    content = bytearray(gzip.decompress(RECORD))
    for _ in range(data.draw(st.integers(1, 10))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    assert len(read_builds([bytes(content)]).builds) <= 2


def test_more_steps_than_are_kept_are_said():
    block = b"#1 [internal] load build definition from Dockerfile\n#1 DONE 0.0s\n\n" + b"".join(
        b"#%d [%d/40] RUN step %d\n#%d CACHED\n\n" % (number + 1, number, number, number + 1) for number in range(1, 41)
    )
    ends = b"#42 exporting to image\n#42 DONE 0.1s\n\n"
    result = read_builds(block + ends for _ in range(300))
    assert any("More than 10,000 steps" in warning for warning in result.warnings)
    assert sum(len(build.steps) for build in result.builds) < 10_200


def test_json_numbers_where_text_should_be_are_ignored():
    digest = "sha256:" + "a" * 64
    lines = [
        {"vertexes": [{"digest": digest, "name": "[1/1] RUN x", "started": "2026-01-01T00:00:00Z", "error": 5}]},
        {"vertexes": [{"digest": digest, "name": 7}, {"digest": digest, "name": "[1/1] RUN x", "started": {"a": 1}}]},
        {"logs": [{"vertex": digest, "data": "no base64!"}, {"vertex": digest, "data": None}]},
        {"statuses": [{"id": "transferring context:", "vertex": digest, "current": "many", "completed": 1}]},
        {"warnings": [{"vertex": digest, "short": 3}]},
    ]
    log = b"".join(orjson.dumps(line) + b"\n" for line in lines)
    build = only(log)
    assert instructions(build) == [(None, "RUN x", "running", None)]
    assert build.outcome is Outcome.INCOMPLETE


def test_reading_puts_off_the_search_for_cycles_only_while_it_reads():
    seen = []

    def chunks():
        for _ in range(3):
            seen.append(gc.isenabled())
            yield PLAIN

    read_builds(chunks())
    assert (seen, gc.isenabled()) == ([False] * 3, True)


def test_reading_leaves_a_switched_off_search_for_cycles_off():
    gc.disable()
    try:
        read_builds([PLAIN])
        assert not gc.isenabled()
    finally:
        gc.enable()
