"""Reading, writing and simplifying vocabulary files."""

from pathlib import Path

import pytest

from bert4keras3.text import (
    normalize_text,
    read_vocabulary,
    simplify_vocabulary,
    write_vocabulary,
)
from bert4keras3.text.vocabulary import index_vocabulary, is_redundant
from bert4keras3.text.wordpiece import WordPiece

RELEASED = Path(__file__).parents[1] / "golden" / "tokenizer" / "vocab.txt"


@pytest.mark.parametrize(
    "content, expected",
    [
        ("a\nb\n", ["a", "b"]),
        ("a\nb", ["a", "b"]),
        ("a\r\nb\r\n", ["a", "b"]),
        ("a\n\nb\n", ["a", "", "b"]),
        ("\ufeffa\nb\n", ["a", "b"]),
        ("a\u2028b\u0085c\x0cd\n", ["a"]),
        ("\u2028\n##\u2028\nb\n", ["", "##", "b"]),
        ("a 17\nb\t3\n", ["a", "b"]),
    ],
)
def test_read(tmp_path, content, expected):
    path = tmp_path / "vocab.txt"
    path.write_bytes(content.encode())
    assert read_vocabulary(path) == read_vocabulary(str(path)) == expected


def test_read_fails_with_a_reason(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_bytes("今\n天".encode("gb18030"))
    with pytest.raises(ValueError, match="not UTF-8 text .line 1, byte 0"):
        read_vocabulary(path)
    path.write_bytes(b"a\nb\n\xff")
    with pytest.raises(ValueError, match="line 3, byte 4"):
        read_vocabulary(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="is empty"):
        read_vocabulary(path)
    with pytest.raises(FileNotFoundError, match="one token a line"):
        read_vocabulary(tmp_path / "other.txt")


def test_write_is_whole_or_nothing(tmp_path):
    path = tmp_path / "vocab.txt"
    write_vocabulary(path, ["a", "今"])
    assert path.read_bytes() == "a\n今\n".encode()
    for wrong in (["a", "b\nc"], ["a", "\ud800"]):
        with pytest.raises(ValueError):
            write_vocabulary(path, wrong)
        assert path.read_bytes() == "a\n今\n".encode()
        assert list(tmp_path.iterdir()) == [path]


def test_simplify():
    tokens = ["[PAD]", "a", "今", "今天", "##天", "##b", "，", "--", "##", "[UNK]"]
    kept, ids = simplify_vocabulary(tokens, ["[UNK]", "[PAD]"])
    assert kept == ["[UNK]", "[PAD]", "a", "今", "##b", "，", "##"]
    assert ids == [9, 0, 1, 2, 5, 6, 8]
    assert simplify_vocabulary(tokens)[1] == [1, 2, 5, 6, 8]
    with pytest.raises(ValueError, match=r"'\[GONE\]' of `start_with`"):
        simplify_vocabulary(tokens, ["[GONE]"])


def test_what_is_redundant_is_never_produced():
    """A word that is a token is cut into more than itself only if it is redundant."""
    tokens = read_vocabulary(RELEASED)
    wordpiece = WordPiece(index_vocabulary(tokens))
    found = 0
    for token in tokens:
        if not token.startswith("##") and normalize_text(token) == token:
            assert (wordpiece.split(token) == [token]) is not is_redundant(token)
            found += 1
    assert found > 10_000
