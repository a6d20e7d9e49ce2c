"""The instruction behind an entry of a history, and the entries behind layers."""

import pytest

from cachescope.images.bases import count_base_entries
from cachescope.images.instructions import HistoryEntry, instruction_of, match_layers, name_bare_commands


def entries(*texts: str, empty: tuple[int, ...] = ()) -> list[HistoryEntry]:
    return [HistoryEntry(created_by=text, is_empty=place in empty) for place, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("created_by", "instruction"),
    [
        ("RUN /bin/sh -c make # buildkit", "RUN make"),
        ("RUN |2 A=1 B=two words /bin/sh -c make $A # buildkit", "RUN make $A"),
        ("RUN /bin/bash -o pipefail -c curl x | sh # buildkit", "RUN curl x | sh"),
        ("RUN /bin/bash -eo pipefail -c curl x | sh # buildkit", "RUN curl x | sh"),
        ("RUN go build ./... # buildkit", "RUN go build ./..."),
        ("RUN cmd /S /C dir # buildkit", "RUN dir"),
        ("RUN powershell -NoProfile -Command Get-Item # buildkit", "RUN Get-Item"),
        ("COPY /deps /deps # buildkit", "COPY /deps /deps"),
        ("WORKDIR /app", "WORKDIR /app"),
        ('/bin/sh -c #(nop)  CMD ["sh"]', 'CMD ["sh"]'),
        ("/bin/sh -c #(nop) WORKDIR /app", "WORKDIR /app"),
        ("/bin/sh -c #(nop) COPY file:ab in . ", "COPY file:ab in ."),
        ("/bin/sh -c apt-get update", "RUN apt-get update"),
        ("|1 V=1 /bin/sh -c make", "RUN make"),
        ("RUN apk add curl", "RUN apk add curl"),
        ("# debian.sh --arch 'amd64' out/ 'bookworm'", "# debian.sh --arch 'amd64' out/ 'bookworm'"),
        ("bazel build ...", "bazel build ..."),
        ("  ", None),
        ("", None),
    ],
)
def test_what_builders_write_around_an_instruction_is_taken_off(created_by, instruction):
    assert instruction_of(created_by) == instruction


def test_a_bare_command_between_entries_of_the_classic_builder_was_a_run():
    classic = entries("/bin/sh -c #(nop) WORKDIR /app", "make all", '/bin/sh -c #(nop)  CMD ["sh"]')
    assert [entry.instruction for entry in name_bare_commands(classic)] == [
        "WORKDIR /app",
        "RUN make all",
        'CMD ["sh"]',
    ]
    assert [entry.instruction for entry in name_bare_commands(entries("bazel build"))] == ["bazel build"]


def test_a_long_history_text_is_cut_and_read_in_linear_time():
    assert len(instruction_of("RUN |1 " + "/bin/sh " * 100_000)) <= 16 * 1024


def test_entries_without_a_layer_are_left_out():
    origins = match_layers(entries("COPY a b", "ENV A=b", "RUN make", "CMD x", empty=(1, 3)), 2)
    assert [origin.instruction for origin in origins] == ["COPY a b", "RUN make"]


def test_the_only_layer_of_a_build_without_layers_belongs_to_all_that_wrote_files():
    origins = match_layers(entries("COPY a b", "ENV A=b", "RUN make", 'CMD ["x"]', empty=(0, 1, 2)), 1)
    assert [origin.instruction for origin in origins] == ["COPY a b\nRUN make"]


def test_a_squashed_layer_belongs_to_all_that_was_squashed():
    base = HistoryEntry(created_by="/bin/sh -c #(nop) ADD file:1 in / ", is_empty=False)
    merged = HistoryEntry(comment=f"merge sha256:{'1' * 64} to sha256:{'2' * 64}", is_empty=False)
    history = [base, *entries("/bin/sh -c make", "/bin/sh -c rm x", empty=(0, 1)), merged]
    assert [origin.instruction for origin in match_layers(history, 2)] == ["ADD file:1 in /", "RUN make\nRUN rm x"]


def test_a_layer_too_many_is_attributed_to_nothing():
    origins = match_layers(entries("COPY a b", "RUN make"), 3)
    assert [origin.instruction for origin in origins] == [None, "COPY a b", "RUN make"]


def test_of_an_engines_history_entries_with_a_size_and_those_that_write_files_carry_the_layers():
    sizes = (10, 0, 0, 5, 0, 0)
    texts = ("", "WORKDIR /app", "RUN true # buildkit", "COPY a b # buildkit", "ENV A=b", 'CMD ["x"]')
    history = [HistoryEntry(created_by=text, size_bytes=size) for text, size in zip(texts, sizes, strict=True)]
    assert [origin.entry for origin in match_layers(history, 4)] == [0, 1, 2, 3]
    assert [origin.entry for origin in match_layers(history, 3)] == [0, 2, 3]


@pytest.mark.parametrize(
    ("history", "own", "border"),
    [
        ([], None, None),
        ([("", "Imported from -"), ("WORKDIR /app", "buildkit.dockerfile.v0")], None, 1),
        ([("# debian.sh x", "debuerreotype 0.16"), ("COPY a b # buildkit", "buildkit.dockerfile.v0")], None, 1),
        ([("/bin/sh -c #(nop) ADD f in /", ""), ("RUN x # buildkit", "buildkit.v0")], None, 1),
        ([("ADD rootfs /", "buildkit.v0"), ('CMD ["sh"]', "buildkit.v0"), ("RUN x", "buildkit.v0")], None, 2),
        ([("RUN a", "buildkit.v0"), ("RUN b", "buildkit.v0")], None, None),
        ([("RUN a", "buildkit.v0"), ("RUN b", "buildkit.v0")], 1, 1),
        ([("COPY a b", "buildkit.v0"), ("RUN b", "buildkit.v0")], None, 0),
        ([("/bin/sh -c x", ""), ("/bin/sh -c y", "FROM docker.io/library/debian:12")], None, 1),
        ([("/bin/sh -c #(nop) COPY a in b", ""), ("/bin/sh -c y", "FROM 89c3a3652c62")], None, 0),
    ],
)  # fmt: skip
def test_the_border_of_the_base_image_is_found_where_something_tells(history, own, border):
    read = [HistoryEntry(created_by=created_by, comment=comment) for created_by, comment in history]
    assert count_base_entries(read, own) == border
