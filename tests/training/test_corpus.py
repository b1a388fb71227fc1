"""Text files to documents to rows: nothing lost, nothing torn, splits that hold."""

import gzip
import json

import numpy as np
import pytest

from bert4keras3.training.corpus import Corpus
from bert4keras3.training.documents import clean_text, read_documents

CLS, SEP = 1, 2
TEXT = [
    "今天 天气 很好 。 我们 去 公园 散步 ， 看 花 。",
    "明天 下雨 ！ “ 真 的 ？ ” 他 问 。\n大家 在 家里 看书",
] * 20


def tokenize(word):
    return [ord(character) for character in word]


@pytest.fixture
def corpus():
    return Corpus.from_documents(TEXT, tokenize)


def words_of(corpus):
    starts = [*np.flatnonzero(corpus.word_starts), len(corpus.token_ids)]
    return [
        "".join(map(chr, corpus.token_ids[a:b]))
        for a, b in zip(starts, starts[1:], strict=False)
    ]


def test_words_and_sentences(corpus):
    assert words_of(corpus) == " ".join(TEXT).split()
    starts = corpus.sentence_starts
    sentences = [
        "".join(map(chr, corpus.token_ids[a:b]))
        for a, b in zip(starts, starts[1:], strict=False)
    ]
    assert sentences[:4] == [
        "今天天气很好。",
        "我们去公园散步，看花。",
        "明天下雨！",
        "“真的？”",
    ]
    assert len(corpus) == len(TEXT)


def test_a_segmenter_cuts_words():
    corpus = Corpus.from_documents(
        ["今天好。"], tokenize, segment=lambda s: [s[:2], s[2:]]
    )
    assert words_of(corpus) == ["今天", "好。"]


def test_closing_quotes_stay_with_their_sentence():
    corpus = Corpus.from_documents(["他说：“好。”走了。"], tokenize, segment=list)
    ends = corpus.sentence_starts[1:]
    assert [chr(corpus.token_ids[end - 1]) for end in ends] == ["”", "。"]


@pytest.mark.parametrize("fill", [False, True])
@pytest.mark.parametrize("length", [8, 16, 64])
@pytest.mark.parametrize("seed", [None, 0])
def test_rows_cover_the_text_once_and_keep_words(corpus, length, fill, seed):
    rng = None if seed is None else np.random.default_rng(seed)
    packed = corpus.pack(length, fill, rng)
    np.testing.assert_array_equal(packed.starts[1:], packed.stops[:-1])
    assert packed.starts[0] == 0 and packed.stops[-1] == len(corpus.token_ids)
    sizes = packed.stops - packed.starts
    assert sizes.min() >= 1 and sizes.max() <= length - 2
    assert corpus.word_starts[packed.starts].all()
    ends = corpus.sentence_starts[corpus.document_starts[1:]]
    for start, stop in zip(packed.starts, packed.stops, strict=True):
        assert np.searchsorted(ends, start, "right") == np.searchsorted(ends, stop)
    if not fill and length > 16:
        assert np.isin(packed.stops, corpus.sentence_starts).all()


def test_random_cuts_differ(corpus):
    one, two = (
        corpus.pack(16, True, np.random.default_rng(seed)).starts for seed in (0, 1)
    )
    assert one.tolist() != two.tolist()


def test_rows(corpus):
    packed = corpus.pack(16, fill=False)
    indices = np.arange(6)
    token_ids, word_ids = corpus.rows(packed, indices, 16, CLS, SEP)
    for row in range(6):
        text = corpus.token_ids[packed.starts[row] : packed.stops[row]]
        size = len(text)
        expected = [CLS, *text, SEP, *[0] * (14 - size)]
        assert token_ids[row].tolist() == expected
        assert (word_ids[row, [0, *range(size + 1, 16)]] == -1).all()
        numbers = word_ids[row, 1 : size + 1]
        begins = corpus.word_starts[packed.starts[row] : packed.stops[row]]
        assert numbers.tolist() == (np.cumsum(begins) - 1).tolist()


def test_a_word_longer_than_a_row_is_cut():
    corpus = Corpus.from_documents(["甲" * 50], tokenize)
    packed = corpus.pack(12, fill=False)
    assert (packed.stops - packed.starts).tolist() == [10] * 5
    _, word_ids = corpus.rows(packed, np.arange(5), 12, CLS, SEP)
    assert (word_ids[:, 1:11] == 0).all()


def test_too_short_a_row(corpus):
    with pytest.raises(ValueError, match="at least 3 tokens"):
        corpus.pack(2, fill=True)


def test_split_is_disjoint_complete_and_stable():
    texts = [f"文 {number}" for number in range(3000)]
    corpus = Corpus.from_documents(texts, tokenize)
    train, held_out = corpus.split(0.1)
    assert 230 < len(held_out) < 370
    assert len(train) + len(held_out) == 3000
    both = [*words_of(train), *words_of(held_out)]
    assert sorted(both) == sorted(words_of(corpus))
    # A document falls on the same side whatever stands beside it.
    reversed_corpus = Corpus.from_documents(texts[::-1], tokenize)
    again = words_of(reversed_corpus.split(0.1)[1])
    assert sorted(again) == sorted(words_of(held_out))
    assert words_of(corpus.split(0.1, seed=1)[1]) != words_of(held_out)


def test_split_may_leave_nothing(corpus):
    train, held_out = corpus.split(0.0)
    assert len(held_out) == 0 and len(held_out.token_ids) == 0
    np.testing.assert_array_equal(train.token_ids, corpus.token_ids)


def test_concatenate(corpus):
    both = Corpus.concatenate([corpus, corpus])
    assert len(both) == 2 * len(corpus)
    assert words_of(both) == 2 * words_of(corpus)
    np.testing.assert_array_equal(
        both.select(range(len(corpus), len(both))).sentence_starts,
        corpus.sentence_starts,
    )


def test_clean_text():
    assert clean_text("１２月，Ａ股涨９．５％．") == "12月，A股涨9.5%。"


def test_read_documents(tmp_path):
    (tmp_path / "a.txt").write_text("一\n二\n三\n", encoding="utf-8")
    with gzip.open(tmp_path / "b.jsonl.gz", "wt", encoding="utf-8") as stream:
        stream.write(json.dumps({"text": "四\u2028五"}) + "\n")
        stream.write(json.dumps({"text": "  "}) + "\n")
    (tmp_path / "c.json").write_text('[{"paragraphs": ["六", "七"]}]', encoding="utf-8")
    (tmp_path / "notes.md").write_text("no", encoding="utf-8")
    assert list(read_documents(tmp_path)) == ["一\n二\n三", "四\u2028五", "六\n七"]
    assert list(read_documents(tmp_path / "a.txt", document_length=2)) == [
        "一\n二",
        "三",
    ]


def test_read_documents_says_what_is_wrong(tmp_path):
    with pytest.raises(FileNotFoundError, match="no text file or folder"):
        list(read_documents(tmp_path / "missing.txt"))
    with pytest.raises(FileNotFoundError, match="No text in folder"):
        list(read_documents(tmp_path))
    other = tmp_path / "a.csv"
    other.write_text("x", encoding="utf-8")
    with pytest.raises(ValueError, match="Cannot tell what"):
        list(read_documents(other))
    wrong = tmp_path / "a.jsonl"
    wrong.write_text('{"body": "x"}\n', encoding="utf-8")
    with pytest.raises(ValueError, match='"text" string'):
        list(read_documents(wrong))
