"""The table format: many blocks, shared prefixes, damage with right checksums."""

import struct

import google_crc32c
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.checkpoints.checkpoint import CheckpointError
from zoo.checkpoints.table import (
    MAGIC,
    build_table,
    masked_crc32c,
    read_table,
    read_varint,
    write_varint,
)


def table_of(block: bytes, kind: int = 0) -> bytes:
    """A table with one data block of any content and a right checksum."""

    def sealed(content: bytes, kind: int = 0) -> bytes:
        tail = bytes([kind])
        return content + tail + struct.pack("<I", masked_crc32c(content, tail))

    index_block = entry(b"z", write_varint(0) + write_varint(len(block))) + RESTARTS
    data = sealed(block, kind)
    handle = write_varint(len(data)) + write_varint(len(index_block))
    footer = (b"\0\0" + handle).ljust(40, b"\0") + struct.pack("<Q", MAGIC)
    return data + sealed(index_block) + footer


def entry(key: bytes, value: bytes, shared: int = 0) -> bytes:
    numbers = map(write_varint, (shared, len(key), len(value)))
    return b"".join(numbers) + key + value


RESTARTS = struct.pack("<II", 0, 1)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.binary(max_size=40), st.binary(max_size=60), max_size=80),
    st.sampled_from([1, 64, 500, 262144]),
)
def test_round_trip(content, block_size):
    items = sorted(content.items())
    assert list(read_table(build_table(items, block_size), "x")) == items


def test_many_blocks_with_shared_prefixes():
    items = [(b"bert/encoder/layer_%05d/kernel" % i, b"v%d" % i) for i in range(3000)]
    data = build_table(items, 1024)
    assert list(read_table(data, "x")) == items
    assert len(data) < sum(len(key) for key, _ in items)


@given(st.integers(0, (1 << 64) - 1))
def test_varint_round_trip(number):
    data = b"x" + write_varint(number) + b"y"
    assert read_varint(data, 1) == (number, len(data) - 1)


def test_masked_checksum():
    # crc32c("123456789") is a published check value; the mask is LevelDB's.
    assert google_crc32c.value(b"123456789") == 0xE3069283
    expected = ((0xE3069283 >> 15 | 0xE3069283 << 17) + 0xA282EAD8) & 0xFFFFFFFF
    assert masked_crc32c(b"1234", b"56789") == expected


def test_sane_table_of_the_helper():
    assert list(read_table(table_of(entry(b"a", b"1") + RESTARTS), "x")) == [
        (b"a", b"1")
    ]


@pytest.mark.parametrize(
    ("block", "match"),
    [
        (b"", "too short"),
        (struct.pack("<I", 9), "more restart points"),
        (entry(b"a", b"1", shared=1) + RESTARTS, "reaches over"),
        (entry(b"a", b"1")[:-1] + RESTARTS, "reaches over"),
        (b"\x00\xff" + RESTARTS, "cut off|reaches over"),
        (b"\xff" * 12 + RESTARTS, "exceeds 64 bits"),
        (b"\x00" + b"\xff" * 8 + b"\x7f\x00" + RESTARTS, "reaches over"),
        (entry(b"b", b"") + entry(b"a", b"") + RESTARTS, "out of order"),
        (entry(b"a", b"") + entry(b"a", b"") + RESTARTS, "out of order"),
    ],
)
def test_damage_behind_right_checksums(block, match):
    with pytest.raises(CheckpointError, match=match):
        list(read_table(table_of(block), "file.index"))


def test_keys_that_repeat_a_long_one():
    numbers = range(1, 1 << 16)
    block = entry(b"a" * 4096, b"") + b"".join(
        entry(number.to_bytes(2, "big"), b"", shared=4096) for number in numbers
    )
    with pytest.raises(CheckpointError, match="longer than those of any model"):
        list(read_table(table_of(block + RESTARTS), "file.index"))


@pytest.mark.parametrize(("kind", "match"), [(1, "snappy"), (2, "type 2")])
def test_compressed_blocks_are_refused(kind, match):
    with pytest.raises(CheckpointError, match=f"compressed .{match}"):
        list(read_table(table_of(RESTARTS, kind), "file.index"))


@pytest.mark.parametrize("data", [b"", b"\0" * 48, b"<html>" * 20, b"\x57\xfb" * 40])
def test_something_else_is_refused(data):
    with pytest.raises(CheckpointError, match="not a TensorFlow checkpoint index"):
        list(read_table(data, "file.index"))


def test_block_beyond_the_file():
    footer = b"\0\0" + write_varint(1 << 40) + write_varint(1 << 50)
    data = footer.ljust(40, b"\0") + struct.pack("<Q", MAGIC)
    with pytest.raises(CheckpointError, match="over the end of the file"):
        list(read_table(data, "file.index"))
