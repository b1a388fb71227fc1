"""Fuzzing against a slow implementation written from the description alone.

It works on one character at a time, asks `unicodedata`, and shares no code with the
library. Its answers are those of Unicode 14, so it needs a Python that has that.
"""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert4keras3.text import Tokenizer, normalize_text

VOCABULARY = Path(__file__).parents[1] / "golden" / "tokenizer" / "vocab.txt"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# Few letters in many combinations, so that words are often cut in several places.
PIECES = [
    "a",
    "b",
    "ab",
    "ba",
    "i",
    "s",
    "ος",
    "σ",
    "##ς",
    "##σ",
    "σα",
    "ⴰ",
    "ㄱ",
    "ᄒ",
]
PIECES += ["##a", "##b", "##ab", "##bab", "##i", "##s", "##ᅡ", "##ᆫ", "##ᄀ", "中", "国"]
PIECES += ["。", ",", "[", "]", "##\u1b44", "##\u302e", "豈", "=", "中国", "a中", "b。"]
PIECES += ["A", "B", "##A", "##B", "AB", "Σ", "##Σ", "İ", "é", "##é", "1", "##1"]
SMALL = SPECIAL + PIECES

pytestmark = pytest.mark.skipif(
    unicodedata.unidata_version != "14.0.0",
    reason="the reference asks this Python's tables, of another Unicode version",
)


def lower_with_sources(text):
    lowered, pairs, position = text.lower(), [], 0
    for index, char in enumerate(text):
        for _ in char.lower():
            pairs.append((lowered[position], index))
            position += 1
    assert position == len(lowered)
    return pairs


def normalize_with_sources(text):
    pairs = []
    for char, index in lower_with_sources(text):
        pairs += [(part, index) for part in unicodedata.normalize("NFD", char)]
    # Canonical ordering, as the standard words it: exchange neighbours until done.
    moved = True
    while moved:
        moved = False
        for i in range(len(pairs) - 1):
            first = unicodedata.combining(pairs[i][0])
            second = unicodedata.combining(pairs[i + 1][0])
            if first > second > 0:
                pairs[i], pairs[i + 1] = pairs[i + 1], pairs[i]
                moved = True
    return [pair for pair in pairs if unicodedata.category(pair[0]) != "Mn"]


def is_punctuation(char):
    symbols = "$+<=>^`|~"
    return char in symbols or unicodedata.category(char)[0] == "P"


def is_ideograph(char):
    blocks = [(0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF)]
    blocks += [(0x2A700, 0x2B73F), (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF)]
    blocks += [(0xF900, 0xFAFF), (0x2F800, 0x2FA1F)]
    return any(first <= ord(char) <= last for first, last in blocks)


def words_of(pairs):
    words, word = [], []
    for char, index in pairs:
        category = unicodedata.category(char)
        if is_punctuation(char) or is_ideograph(char):
            words += [word, [(char, index)]]
            word = []
        elif char in " \t\r\n\u2028\u2029" or category == "Zs":
            words.append(word)
            word = []
        elif category not in ("Cc", "Cf") and char not in "\0\ufffd":
            word.append((char, index))
    return [word for word in [*words, word] if word]


def pieces_of(word, vocabulary, max_word_length):
    """A list of (token, number of characters)."""
    if len(word) > max_word_length:
        return [(word, len(word))]
    pieces, rest = [], word
    while rest:
        prefix = "##" if pieces else ""
        for length in range(len(rest), 0, -1):
            if prefix + rest[:length] in vocabulary:
                break
        else:
            return [(word, len(word))]
        pieces.append((prefix + rest[:length], length))
        rest = rest[length:]
    return pieces


def reference(text, vocabulary, lowercase, max_word_length=200):
    """The tokens and spans of a text."""
    pairs = list(zip(text, range(len(text)), strict=True))
    if lowercase:
        pairs = normalize_with_sources(text)
    tokens, spans = [], []
    for word in words_of(pairs):
        joined = "".join(char for char, _ in word)
        for token, length in pieces_of(joined, vocabulary, max_word_length):
            sources = [index for _, index in word[:length]]
            word = word[length:]
            tokens.append(token)
            spans.append((min(sources), max(sources) + 1))
    return tokens, spans


# Characters that one rule or another treats in a special way.
TRICKY = "aAbBiIsS1 \t\n\r\x00\x0b\x1c\x85\xa0\xad\u2028\u2029\u3000\u200b\ufffd\ufeff"
TRICKY += "中国\uf900\uf9ff\U0002f800\U00020000。，.,:'’·[]#$=≠≮`~^|´\u037e\u1fef\u2000"
TRICKY += "ΣσςİıßẞÀéÅK\u01c5\u0301\u0308\u0345\u0300\u0344\u093c\u0901\u034f"
TRICKY += "한국각한\u302e\u302f\u1b44\u1baa\U0001d15e\U0001d165\U0001d16d\U0001d160"
TRICKY += "\U00016ff0\ud800\udfff\U0010ffff\U0001f468\u200d\ufe0f①Ａ１㎡ﬁ\u180e\u0f73"
texts = st.text(
    st.one_of(
        st.sampled_from(TRICKY),
        st.sampled_from("abΣ中"),
        st.characters(exclude_categories=()),
    ),
    max_size=24,
)


@pytest.fixture(scope="module")
def tokenizers():
    return {
        (name, lowercase, limit): (
            Tokenizer(vocabulary, lowercase=lowercase, max_word_length=limit),
            set(vocabulary if name == "small" else VOCABULARY.read_text().split("\n")),
        )
        for name, vocabulary in (("small", SMALL), ("released", VOCABULARY))
        for lowercase in (True, False)
        for limit in (200, 3)
    }


@settings(max_examples=400, deadline=None)
@given(text=texts)
def test_tokens_and_spans(tokenizers, text):
    for (_, lowercase, limit), (tokenizer, vocabulary) in tokenizers.items():
        tokens, spans = reference(text, vocabulary, lowercase, limit)
        encoding = tokenizer.encode(text)
        assert encoding.tokens == ["[CLS]", *tokens, "[SEP]"]
        assert encoding.token_ids == list(map(tokenizer.token_to_id, encoding.tokens))
        assert encoding.offsets == [None, *spans, None]


@settings(max_examples=400, deadline=None)
@given(text=texts)
def test_normalize_text(text):
    expected = unicodedata.normalize("NFD", text.lower())
    expected = "".join(c for c in expected if unicodedata.category(c) != "Mn")
    assert normalize_text(text) == expected


def test_every_assigned_character():
    """Each character between letters and beside an ideograph."""
    assigned = [
        chr(code)
        for code in range(0x110000)
        if unicodedata.category(chr(code)) not in ("Cn", "Co", "Cs")
        # One in 32 stands for the long uniform blocks of ideographs and syllables.
        and (unicodedata.category(chr(code)) != "Lo" or code < 0x3400 or code % 32 < 1)
    ]
    assert len(assigned) > 20_000
    vocabulary = set(SMALL)
    for lowercase in (True, False):
        splitter = Tokenizer(SMALL, lowercase=lowercase)._splitter
        for char in assigned:
            text = f"a{char}b中{char}"
            tokens, spans = reference(text, vocabulary, lowercase)
            assert splitter.split(text) == tokens, ascii(char)
            assert splitter.spans(text) == spans, ascii(char)
