"""The tokenizer in the graph gives what the one in Python gives, on every string."""

import json
import random
from pathlib import Path

import numpy as np
import pytest

from bert4keras3.text import Tokenizer
from bert4keras3.text.unicode_tables import unicode_tables

GOLDEN = Path(__file__).parents[1] / "golden" / "tokenizer"
CASES = json.loads((GOLDEN / "tokenizer_cases.json").read_text("utf-8"))
TEXTS = sorted({case["text"] for case in CASES["lower"] + CASES["cased"]})
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# Letters in many combinations, marks that are sorted, and what vanishes or parts words.
LETTERS = "aábßAsi1٣Σσςοιϴⴰ中国。,#[ ＡＢ豈각ᄀ"
MARKS = "\u0301\u0323\u0345\u302e\u302f\U0001d165\U0001d16d\U00016ff0"
ODD = "\x00\x07\t\n\r\u00ad\u200b\u2028\u3000\ufffd\ufeff\u0130\u1e9b\ue000\U0010ffff"


def graph_tokenizer(*arguments, **options):
    from bert4keras3.text.graph_tokenizer import GraphTokenizer

    return GraphTokenizer(*arguments, **options)


@pytest.fixture(scope="module")
def lower():
    tokenizer = Tokenizer(GOLDEN / "vocab.txt")
    return tokenizer, graph_tokenizer(tokenizer)


@pytest.fixture(scope="module")
def cased():
    tokenizer = Tokenizer(GOLDEN / "vocab.txt", lowercase=False)
    return tokenizer, graph_tokenizer(tokenizer)


def compiled(method):
    import tensorflow as tf

    return tf.function(method, input_signature=[tf.TensorSpec([None], "string")])


def assert_same(pair, texts, batch=500):
    """Ids and offsets of every text equal those of the Python tokenizer."""
    tokenizer, in_graph = pair
    tokens_of = compiled(in_graph.tokens)
    for begin in range(0, len(texts), batch):
        part = texts[begin : begin + batch]
        ids, rows, starts, ends = (each.numpy() for each in tokens_of(part))
        splits = np.searchsorted(rows, np.arange(len(part) + 1))
        for text, first, last in zip(part, splits, splits[1:], strict=False):
            expected = tokenizer.encode(text, add_special_tokens=False)
            spans = zip(starts[first:last], ends[first:last], strict=True)
            given = ids[first:last].tolist(), [(int(a), int(b)) for a, b in spans]
            assert given == (expected.token_ids, expected.offsets), ascii(text)


def hostile(count, seed, longest=30):
    draw = random.Random(seed)

    def character():
        kind = draw.random()
        if kind < 0.6:
            return draw.choice(LETTERS + MARKS + ODD)
        if kind < 0.9:
            return chr(draw.randint(0, 0x2FFF))
        code = draw.randint(0, 0x10FFFF)
        return chr(code) if not 0xD800 <= code < 0xE000 else "中"

    return [
        "".join(character() for _ in range(draw.randint(0, longest)))
        for _ in range(count)
    ]


def test_golden_strings(lower, cased):
    assert len(TEXTS) > 100
    for pair in (lower, cased):
        assert_same(pair, TEXTS)


def test_hostile_strings(lower, cased):
    assert_same(lower, hostile(3000, 1))
    assert_same(cased, hostile(1000, 2))


@pytest.mark.slow
def test_thirty_thousand_hostile_strings(lower):
    assert_same(lower, hostile(30_000, 3))


def assigned_code_points():
    """All but surrogates and the planes that hold nothing."""
    planes = [*range(0, 0xD800), *range(0xE000, 0x32000), *range(0xE0000, 0xE0200)]
    changed = unicode_tables()
    return sorted({*planes, *changed.lower, *changed.decomposition, 0xF0000, 0x10FFFF})


def test_every_code_point_of_the_table(lower):
    """Each as it stands between letters, by the entries of the tables alone."""
    texts = [f"a{chr(code)}b" for code in assigned_code_points()[::7]]
    assert_same(lower, texts, batch=5000)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["{}", "a{}b", "中{}\u0301Σ{}"])
def test_every_code_point(lower, cased, form):
    texts = [form.format(*[chr(code)] * 2) for code in assigned_code_points()]
    for pair in (lower, cased):
        assert_same(pair, texts, batch=5000)


@pytest.mark.parametrize("max_length", [None, 4, 7, 24])
@pytest.mark.parametrize("length", [None, 40, [8, 24, 48]])
def test_arrays_of_texts_and_pairs(lower, max_length, length):
    tokenizer, in_graph = lower
    if length is None and max_length is None:
        length = [256]
    for seed in range(4):
        texts, pairs = hostile(20, seed, 40), hostile(20, seed + 9, 40)
        for columns in ((texts,), (texts, pairs)):
            options = {"max_length": max_length, "length": length}
            expected = tokenizer(*columns, **options)
            given = in_graph(*columns, **options)
            for name, array in expected.items():
                np.testing.assert_array_equal(given[name].numpy(), array, name)
                assert given[name].dtype.name == array.dtype.name


def test_long_texts_may_lose_their_beginning(lower):
    tokenizer, in_graph = lower
    for seed in range(3):
        texts, pairs = hostile(20, seed, 40), hostile(20, seed + 9, 40)
        for columns in ((texts,), (texts, pairs)):
            options = {"max_length": 12, "truncate_from": "left"}
            expected = tokenizer(*columns, **options)["token_ids"]
            given = in_graph(*columns, **options)["token_ids"]
            np.testing.assert_array_equal(given.numpy(), expected)


def test_special_tokens_in_texts(lower, words):
    special = ("[MASK]", "[SEP]")
    texts = [
        "今[MASK]天[MASK][MASK]",
        "[MAS[MASK]K]Σ[SEP]Σ",
        "[MASK",
        "[mask]",
        "[SEP]",
    ]
    mixed = hostile(200, 8, 6)
    draw = random.Random(1)
    mixed = ["".join(draw.sample([*mixed, *special * 60], 5)) for _ in range(300)]
    for tokenizer, _ in (lower, words):
        in_graph = graph_tokenizer(tokenizer, allow_special=special)
        given = compiled(in_graph.encode)(texts + mixed)
        for row, text in enumerate(texts + mixed):
            expected = tokenizer.encode(text, allow_special=special)
            length = len(expected.token_ids)
            ids, starts, ends = (
                given[name][row, :length].numpy().tolist()
                for name in ("token_ids", "starts", "ends")
            )
            spans = [
                None if start < 0 else (start, end)
                for start, end in zip(starts, ends, strict=True)
            ]
            assert ids == expected.token_ids, ascii(text)
            assert spans == expected.offsets, ascii(text)
    with pytest.raises(ValueError, match="no.*token of the vocabulary"):
        graph_tokenizer(lower[0], allow_special=["[NONE]"])


def test_zero_segments_and_translated_tokens():
    options = {"zero_segments": True, "token_translate": {"今": "天", "天": "今"}}
    tokenizer = Tokenizer([*SPECIAL, "今", "天", "好"], **options)
    in_graph = graph_tokenizer(tokenizer)
    texts = ["今天好", "好今"], ["天", "今今"]
    for name, array in tokenizer(*texts).items():
        np.testing.assert_array_equal(in_graph(*texts)[name].numpy(), array)


def test_odd_batches(lower):
    import tensorflow as tf

    _, in_graph = lower
    whole = compiled(in_graph)
    assert whole(tf.zeros([0], "string"))["token_ids"].shape == (0, 2)
    assert whole([""])["token_ids"].numpy().tolist() == [[101, 102]]
    broken = whole([b"\xff\xe4\xbb", "好".encode()])
    assert broken["padding_mask"].numpy().sum(1).tolist() == [2, 3]
    long = whole(["好" * 400_000])
    assert long["token_ids"].shape == (1, 400_002)
    many = whole(["good"] * 10_000)
    assert len(np.unique(many["token_ids"].numpy(), axis=0)) == 1


def test_long_words_are_unknown(lower):
    tokenizer, _ = lower
    assert_same(lower, ["a" * 200, "a" * 201, "中" + "a" * 300 + "中"])
    short = Tokenizer(GOLDEN / "vocab.txt", max_word_length=3)
    assert_same((short, graph_tokenizer(short)), ["abc abcd 中abcd"])


def test_it_runs_in_tf_data(lower):
    import tensorflow as tf

    tokenizer, in_graph = lower
    texts = TEXTS[:64]
    dataset = tf.data.Dataset.from_tensor_slices(texts).batch(16)
    dataset = dataset.map(lambda batch: in_graph(batch, length=256))
    given = np.concatenate([batch["token_ids"].numpy() for batch in dataset])
    np.testing.assert_array_equal(given, tokenizer(texts, length=256)["token_ids"])


class TestErrors:
    def test_tokenizers_without_what_is_needed(self):
        for kind in ("unk", "pad", "cls", "sep"):
            tokenizer = Tokenizer(SPECIAL, **{f"{kind}_token": None})
            with pytest.raises(ValueError, match=f"needs a `{kind}_token`"):
                graph_tokenizer(tokenizer)

    def test_translating_what_the_vocabulary_lacks(self):
        tokenizer = Tokenizer([*SPECIAL, "好"], token_translate={"坏": "好"})
        with pytest.raises(ValueError, match="must be in the vocabulary.*坏"):
            graph_tokenizer(tokenizer)

    def test_no_room(self, lower):
        with pytest.raises(ValueError, match="no room for 3 special tokens"):
            lower[1](["好"], ["坏"], max_length=2)


@pytest.fixture(scope="module")
def words():
    """A word-level tokenizer: frequent words of jieba's, and the characters."""
    import jieba

    jieba.setLogLevel("ERROR")
    jieba.initialize()
    counts = jieba.dt.FREQ
    frequent = sorted(counts, key=lambda word: (-counts[word], word))[:20_000]
    # Words of letters, a token that is a control, and one that no dictionary has.
    odd = ["2008", "##08", "a", "ab", "##b", "t恤", "c++", "\u200b", "犇猋"]
    characters = sorted({char for word in frequent for char in word} - set("犇猋"))
    vocabulary = list(dict.fromkeys([*SPECIAL, *odd, *frequent, *characters]))
    tokenizer = Tokenizer(vocabulary, pre_tokenize="jieba")
    return tokenizer, graph_tokenizer(tokenizer)


TEXTS_OF_WORDS = [
    "北京大学的模型在2008年发布，卡拉OK和T恤C++abc ab20081",
    "研究生命起源的乒乓球拍卖完了",
    "a" * 300 + "中华人民共和国" * 40,
    "\u200b\u200b犇猋 \r\n é",
    "南京市长江大桥，南京市长江大桥",
]


class TestWords:
    def test_golden_strings(self, words):
        assert_same(words, TEXTS)

    def test_words_of_the_dictionary(self, words):
        assert_same(words, TEXTS_OF_WORDS)
        tokens = words[0].tokenize(TEXTS_OF_WORDS[0])
        assert {"北京大学", "2008", "c++"} <= set(tokens)

    def test_hostile_strings(self, words):
        assert_same(words, hostile(1000, 4))
        draw = random.Random(5)
        letters = "南京市长江大桥的研究生命起源乒乓球拍卖完了一二三ab12+-%犇"
        texts = [
            "".join(draw.choices(letters, k=draw.randint(0, 60))) for _ in range(1500)
        ]
        assert_same(words, texts)

    def test_another_cutter_is_refused(self):
        tokenizer = Tokenizer([*SPECIAL, "好"], pre_tokenize=str.split)
        with pytest.raises(ValueError, match="as jieba cuts them, and by no other"):
            graph_tokenizer(tokenizer)
