"""Unpacking: any bytes in, the log or one sentence out, in bounded memory."""

import gzip
import random
from contextlib import suppress

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from cachescope.errors import TooLargeError, UnreadableInputError, UnsupportedInputError
from workers.unpacking import PIECE, TextCutter, Unpacker, read_encoding

CAP = 8 << 20


def unpack(body: bytes, encoding: str = "identity", cap: int = CAP, size: int = 1 << 16) -> bytes:
    unpacker = Unpacker(encoding, cap)
    found = [piece for at in range(0, len(body), size) for piece in unpacker.feed(body[at : at + size])]
    unpacker.finish()
    assert all(len(piece) <= PIECE for piece in found)
    return b"".join(found)


def cut(body: bytes, size: int) -> tuple[bytes, list[bytes]]:
    cutter = TextCutter()
    pieces = [piece for at in range(0, len(body), size) for piece in cutter.feed(body[at : at + size])]
    rest = cutter.finish()
    return b"".join([*pieces, rest]), pieces


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress])
@pytest.mark.parametrize("size", [1, 7, 1 << 16])
def test_a_packed_log_may_come_in_pieces_of_any_size(pack: object, size: int) -> None:
    log = b"".join(b"#1 %d\n" % number for number in range(2000))
    assert unpack(pack(log), "gzip" if pack is gzip.compress else "zstd", size=size) == log


def test_a_log_larger_than_a_piece_comes_out_whole() -> None:
    log = random.Random(1).randbytes(5 << 20).hex().encode()[: 7 << 20]
    assert unpack(gzip.compress(log, 1), "gzip", size=3 << 20) == log


def test_the_cap_counts_what_comes_out() -> None:
    log = random.Random(1).randbytes(640 << 10).hex().encode()
    packed = gzip.compress(log)
    assert len(packed) < 1 << 20 < len(log)
    with pytest.raises(TooLargeError, match="1 MiB"):
        unpack(packed, "gzip", cap=1 << 20)


def test_the_cap_counts_what_comes_in() -> None:
    with pytest.raises(TooLargeError):
        unpack(b"x" * 2048, cap=1024)


def test_a_bomb_is_stopped_long_before_its_end() -> None:
    unpacker = Unpacker("gzip", 1 << 40)
    bomb = gzip.compress(bytes(64 << 20))
    with pytest.raises(TooLargeError, match="200 times"):
        list(unpacker.feed(bomb))
    assert unpacker.unpacked_bytes < 16 << 20


def test_a_short_log_of_equal_lines_is_no_bomb() -> None:
    log = b"\n" * 900_000
    assert unpack(gzip.compress(log), "gzip") == log


def test_a_thousand_files_in_a_row_are_no_log() -> None:
    with pytest.raises(UnreadableInputError, match="1000 files"):
        unpack(gzip.compress(b"") * 1001, "gzip")


def test_zstd_may_not_ask_for_a_huge_window() -> None:
    unpacker = Unpacker("zstd", CAP)
    stream = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 27})
    packed = stream.compress(b"x" * 100) + stream.flush()
    with pytest.raises(UnreadableInputError, match="zstd"):
        list(unpacker.feed(packed))


@given(st.binary(min_size=1, max_size=4000), st.sampled_from(["identity", "gzip", "zstd"]))
def test_any_bytes_give_a_log_or_our_own_error(body: bytes, encoding: str) -> None:
    with suppress(UnreadableInputError):
        unpack(body, encoding, size=100)


@given(st.binary(min_size=1, max_size=3000), st.integers(0, 30))
def test_a_damaged_file_gives_our_own_error_or_a_log(log: bytes, at: int) -> None:
    packed = bytearray(gzip.compress(log))
    packed[at % len(packed)] ^= 0xFF
    with suppress(UnreadableInputError):
        unpack(bytes(packed), "gzip")


@pytest.mark.parametrize("header", [None, "", "identity", "GZIP", " zstd ", "x-gzip"])
def test_known_encodings_are_taken_however_they_are_written(header: str | None) -> None:
    assert read_encoding(header) in {"identity", "gzip", "zstd"}


@pytest.mark.parametrize("header", ["br", "deflate", "gzip, zstd"])
def test_other_encodings_are_refused_by_name(header: str) -> None:
    with pytest.raises(UnsupportedInputError, match=header):
        read_encoding(header)


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=60), max_size=200), st.integers(1, 500)
)
def test_cutting_loses_nothing_and_ends_at_line_ends(lines: list[str], size: int) -> None:
    body = "".join(f"{line}\n" for line in lines).encode() + b"the end"
    whole, pieces = cut(body, size)
    assert whole == body
    assert all(piece.endswith(b"\n") for piece in pieces)


def test_a_line_without_an_end_is_cut_between_words() -> None:
    body = b"word " * 1_000_000
    whole, pieces = cut(body, 1 << 16)
    assert whole == body
    assert len(pieces) > 3
    assert all(piece.endswith(b"word") for piece in pieces)


def test_utf_16_with_a_mark_becomes_utf_8() -> None:
    text = "#1 transferring context: 2B done ✓\r\n" * 500
    assert cut(text.encode("utf-16"), 99)[0].decode() == text


@pytest.mark.parametrize("size", [50, 100_000])
def test_noise_is_no_text(size: int) -> None:
    with pytest.raises(UnreadableInputError, match="not text"):
        cut(random.Random(2).randbytes(size), 1 << 16)


def test_a_log_with_some_odd_bytes_is_text() -> None:
    body = b"#1 \x1b[32mcolour\x1b[0m and progress\r\x08\x07 caf\xe9 \x00\n" * 300
    assert cut(body, 1000)[0] == body
