"""Padding, cutting and comparing sequences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert4keras3.text import (
    join_tokens,
    longest_common_subsequence,
    longest_common_substring,
    pad_sequences,
    split_text,
    truncate_sequences,
)

# --- pad_sequences --------------------------------------------------------------


def test_padding_sides_and_values():
    rows = [[1, 2, 3], [4], []]
    assert pad_sequences(rows, value=-1).tolist() == [[1, 2, 3], [4, -1, -1], [-1] * 3]
    left = pad_sequences(rows, 2, side="left")
    assert left.tolist() == [[1, 2], [0, 4], [0, 0]]
    assert left.dtype == np.int64


def test_padding_keeps_dtypes_and_further_axes():
    rows = [np.ones((2, 3), np.float32), np.ones((1, 3), np.float32)]
    padded = pad_sequences(rows)
    assert padded.shape == (2, 2, 3) and padded.dtype == np.float32
    assert padded[1].tolist() == [[1, 1, 1], [0, 0, 0]]
    assert pad_sequences(rows, [4, 5], num_axes=2).shape == (2, 4, 5)
    assert pad_sequences([[1]], 2, value=0.5).tolist() == [[1, 0.5]]
    assert pad_sequences([], 3).shape == (0, 3)


def test_padding_that_cannot_be():
    with pytest.raises(ValueError, match="'right' or 'left', not 'post'"):
        pad_sequences([[1]], side="post")
    with pytest.raises(ValueError, match="2 lengths were given for 1 padded axes"):
        pad_sequences([[1]], [2, 3])
    with pytest.raises(ValueError, match="no sequences"):
        pad_sequences([])


# --- truncate_sequences ---------------------------------------------------------


def test_truncation_leaves_its_input_alone():
    first, second = [1, 2, 3], (4, 5)
    assert truncate_sequences(4, -1, first, second) == [[1, 2], [4, 5]]
    assert (first, second) == ([1, 2, 3], (4, 5))
    assert truncate_sequences(9, -1, first, []) == [[1, 2, 3], []]


def test_truncation_with_an_index_each():
    assert truncate_sequences(4, [0, -1], [1, 2, 3], [4, 5, 6]) == [[2, 3], [4, 5]]
    with pytest.raises(ValueError, match="1 indices for 2 sequences"):
        truncate_sequences(4, [0], [1, 2, 3], [4, 5, 6])


def test_truncation_that_cannot_be():
    with pytest.raises(ValueError, match="Cannot shorten 3 items to 1"):
        truncate_sequences(1, 2, [1, 2, 3])
    with pytest.raises(ValueError, match="0 or more, not -1"):
        truncate_sequences(-1, -1, [1])


def test_truncation_of_long_sequences_is_quick():
    long = list(range(300_000))
    kept = truncate_sequences(100_001, 1, long, long, [1])
    assert [len(sequence) for sequence in kept] == [50_000, 50_000, 1]
    assert kept[0][:2] == [0, 250_001]


@settings(max_examples=300, deadline=None)
@given(
    max_length=st.integers(0, 30),
    index=st.integers(-4, 4),
    sequences=st.lists(st.lists(st.integers(), max_size=12), max_size=4),
)
def test_truncation_equals_removing_one_by_one(max_length, index, sequences):
    expected = [list(sequence) for sequence in sequences]
    try:
        while sum(map(len, expected)) > max_length:
            longest = max(map(len, expected))
            next(s for s in expected if len(s) == longest).pop(index)
    except IndexError:
        with pytest.raises(ValueError, match="Cannot shorten"):
            truncate_sequences(max_length, index, *sequences)
    else:
        assert truncate_sequences(max_length, index, *sequences) == expected


# --- split_text -----------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(text=st.text("ab。，\n "), max_length=st.integers(1, 8))
def test_split_text_loses_nothing_but_white_space(text, max_length):
    parts = split_text(text, max_length, "\n。，")
    bare = [part.replace(" ", "").replace("\n", "") for part in parts]
    assert "".join(bare) == text.replace(" ", "").replace("\n", "")
    for part in parts:
        assert part == part.strip()
        core = part.strip("。，")
        # Only a row of separators, or a piece without any, may be longer.
        assert min(len(part), len(core)) <= max_length or not set(core) & set("\n。，")


def test_split_text_of_a_long_text():
    text = "今天天气好。" * 20_000
    parts = split_text(text, 512, "。")
    assert "".join(parts) == text
    assert max(map(len, parts)) <= 512
    assert min(map(len, parts[:-1])) > 500


# --- longest_common_* -----------------------------------------------------------

short = st.text("abc", max_size=9)


@settings(max_examples=200, deadline=None)
@given(first=short, second=short)
def test_longest_common_substring(first, second):
    length, (a, b, c, d) = longest_common_substring(first, second)
    shared = {
        first[i:j]
        for i in range(len(first) + 1)
        for j in range(i, len(first) + 1)
        if first[i:j] in second
    }
    assert length == max(map(len, shared)) == b - a == d - c
    assert first[a:b] == second[c:d]


@settings(max_examples=200, deadline=None)
@given(first=short, second=short)
def test_longest_common_subsequence(first, second):
    length, pairs = longest_common_subsequence(first, second)
    subsequences = {""}
    for char in first:
        subsequences |= {each + char for each in subsequences}

    def is_in_second(word):
        rest = iter(second)
        return all(char in rest for char in word)

    assert length == len(pairs) == max(map(len, filter(is_in_second, subsequences)))
    assert all(first[i] == second[j] for i, j in pairs)
    for (a, b), (c, d) in zip(pairs, pairs[1:], strict=False):
        assert a < c and b < d


# --- join_tokens ----------------------------------------------------------------


@pytest.mark.parametrize(
    "tokens, text",
    [
        ("don ' t know", "don't know"),
        ("3 . 14 元", "3.14元"),
        ("٣ . ٤", "٣.٤"),
        ("a , b 。 c", "a, b。c"),
        ("今 天 very good ！", "今天very good！"),
        ("( a + b ) = c", "(a+b) =c"),
        ("[CLS] un ##know ##n [unused3] [SEP]", "unknown"),
        ("## a", "a"),
        ("", ""),
    ],
)
def test_join_tokens(tokens, text):
    assert join_tokens(tokens.split()) == text
