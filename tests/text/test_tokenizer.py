"""Options, batches, saving and bad input of the tokenizer."""

import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from bert4keras3.text import Tokenizer

GOLDEN = Path(__file__).parents[1] / "golden" / "tokenizer"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SMALL = [*SPECIAL, "今", "天", "好", "good", "##s", "a", "##b", "，"]
TEXTS = ["今天Goods", "好", "今 天 ab 雨"]


@pytest.fixture(scope="module")
def released():
    return Tokenizer(GOLDEN / "vocab.txt")


@pytest.fixture(scope="module")
def small():
    return Tokenizer(SMALL)


# --- one text -------------------------------------------------------------------


def test_attributes(small):
    assert small.vocabulary == SMALL
    assert small.vocabulary_size == len(SMALL)
    assert small.keep_tokens is None
    assert [small.token_to_id(token) for token in SPECIAL] == [0, 1, 2, 3, 4]
    assert small.token_to_id("雨") == small.unk_token_id == 1
    assert small.id_to_token(5) == small.id_to_token(np.int32(5)) == "今"
    assert "13" in repr(small)


def test_unknown_words_keep_their_text_and_place(small):
    encoding = small.encode("今 Rain天")
    assert encoding.tokens == ["[CLS]", "今", "rain", "天", "[SEP]"]
    assert encoding.token_ids == [2, 5, 1, 6, 3]
    assert encoding.offsets == [None, (0, 1), (2, 6), (6, 7), None]


def test_pair(small):
    encoding = small.encode("今天", "好 goods")
    assert encoding.tokens == "[CLS] 今 天 [SEP] 好 good ##s [SEP]".split()
    assert encoding.segment_ids == [0, 0, 0, 0, 1, 1, 1, 1]
    assert encoding.text_ids == [None, 0, 0, None, 1, 1, 1, None]
    offsets = [None, (0, 1), (1, 2), None, (0, 1), (2, 6), (6, 7), None]
    assert encoding.offsets == offsets
    assert len(encoding) == 8
    assert small.tokenize("今天", "好 goods") == encoding.tokens


def test_an_empty_second_text_is_a_pair(small):
    assert small.tokenize("今", "") == ["[CLS]", "今", "[SEP]", "[SEP]"]


def test_zero_segments():
    tokenizer = Tokenizer(SMALL, zero_segments=True)
    encoding = tokenizer.encode("今天", "好")
    assert encoding.segment_ids == [0] * 6
    assert encoding.text_ids == [None, 0, 0, None, 1, None]
    assert not tokenizer(["今天"], ["好"])["segment_ids"].any()


def test_truncation_keeps_tokens_and_places_together(released):
    first, second = "今天天气 very good！", "不错Playing，好"
    whole = released.encode(first, second)
    places = set(zip(whole.tokens, whole.text_ids, whole.offsets, strict=True))
    for max_length in range(3, len(whole) + 2):
        for truncate_from in ("right", "left", 1, -2):
            encoding = released.encode(
                first, second, max_length, truncate_from=truncate_from
            )
            assert len(encoding) == min(max_length, len(whole))
            rows = zip(
                encoding.tokens, encoding.text_ids, encoding.offsets, strict=True
            )
            assert set(rows) <= places
            assert encoding.tokens.count("[SEP]") == 2


def test_add_special_tokens(small):
    encoding = small.encode("今天", "好", add_special_tokens=False)
    assert encoding.tokens == ["今", "天", "好"]
    assert encoding.segment_ids == [0, 0, 1]
    short = small.encode("今天", "好", 2, add_special_tokens=False)
    assert short.tokens == ["今", "好"]
    assert small("", add_special_tokens=False)["token_ids"].shape == (1, 0)


def test_pairs_without_cls_obey_max_length():
    # bert4keras makes room for a second [CLS] even if there is none to drop.
    tokenizer = Tokenizer(SMALL, cls_token=None)
    assert len(tokenizer.encode("今天好今天好", "今天好", 6)) == 6


def test_special_tokens_in_a_text_are_text(small):
    assert small.encode("[MASK]").token_ids == [2, 1, 1, 1, 3]


def test_allow_special(small):
    encoding = small.encode("今[MASK]Goods[MASK][SEP]", allow_special=["[MASK]"])
    assert encoding.tokens[:6] == ["[CLS]", "今", "[MASK]", "good", "##s", "[MASK]"]
    assert encoding.tokens[6:] == ["[", "sep", "]", "[SEP]"]
    assert encoding.token_ids == [2, 5, 4, 8, 9, 4, 1, 1, 1, 3]
    offsets = [None, (0, 1), (1, 7), (7, 11), (11, 12), (12, 18)]
    assert encoding.offsets == [*offsets, (18, 19), (19, 22), (22, 23), None]
    same = small(["今[MASK]Goods[MASK][SEP]"], allow_special="[MASK]")
    assert same["token_ids"].tolist() == [encoding.token_ids]


def test_allow_special_prefers_the_longer_token():
    tokenizer = Tokenizer([*SPECIAL, "<a", "<a>"])
    assert tokenizer.tokenize("<a><a", allow_special=("<a", "<a>"))[1:-1] == [
        "<a>",
        "<a",
    ]


def test_allow_special_must_be_known(small):
    for wrong in (["[GONE]"], [""]):
        with pytest.raises(ValueError, match="not a token of the vocabulary"):
            small.encode("今", allow_special=wrong)


def test_token_translate():
    tokenizer = Tokenizer(SMALL, token_translate={"，": "[SEP]"})
    encoding = tokenizer.encode("今，[MASK]，", allow_special=["[MASK]"])
    assert encoding.tokens == ["[CLS]", "今", "[SEP]", "[MASK]", "[SEP]", "[SEP]"]
    assert encoding.offsets[1:5] == [(0, 1), (1, 2), (2, 8), (8, 9)]


def test_offsets_after_a_letter_that_grows(released):
    """Lower-casing "İ" gives two characters; offsets are those of the text itself."""
    text = "İİ今 İa天"
    encoding = released.encode(text)
    covered = [text[slice(*span)] for span in encoding.offsets if span]
    assert "".join(covered) == text.replace(" ", "")
    assert covered[-1] == "天"


def test_encodings_compare_and_travel(small):
    encoding = small.encode("今天", "Goods")
    copy = pickle.loads(pickle.dumps(encoding))
    assert copy == encoding
    assert copy.offsets == encoding.offsets
    assert encoding != small.encode("今天", "Good")
    assert (encoding == 1) is False
    assert "今" in repr(encoding)


# --- batches --------------------------------------------------------------------


def test_batch(small):
    arrays = small(TEXTS)
    rows = [small.encode(text).token_ids for text in TEXTS]
    assert list(arrays) == ["token_ids", "segment_ids", "padding_mask"]
    assert arrays["token_ids"].dtype == arrays["segment_ids"].dtype == np.int32
    assert arrays["padding_mask"].dtype == bool
    assert {array.shape for array in arrays.values()} == {(3, max(map(len, rows)))}
    for i, row in enumerate(rows):
        assert arrays["token_ids"][i].tolist() == row + [0] * (7 - len(row))
        assert arrays["padding_mask"][i].sum() == len(row)
    assert not arrays["segment_ids"].any()


def test_batch_of_pairs(small):
    pairs = ["好", "今天goods", ""]
    arrays = small(TEXTS, pairs, 7)
    for i, (text, pair) in enumerate(zip(TEXTS, pairs, strict=True)):
        encoding = small.encode(text, pair, 7)
        mask = arrays["padding_mask"][i]
        assert arrays["token_ids"][i][mask].tolist() == encoding.token_ids
        assert arrays["segment_ids"][i][mask].tolist() == encoding.segment_ids
        assert not arrays["segment_ids"][i][~mask].any()
        assert not mask[len(encoding) :].any()


def test_padding_uses_the_pad_id():
    tokenizer = Tokenizer(["今", *SPECIAL])
    assert tokenizer(["今今", "今"])["token_ids"][1].tolist() == [3, 0, 4, 1]


def test_length(small):
    assert small(TEXTS, length=16)["token_ids"].shape == (3, 16)
    assert small(TEXTS, length=[4, 8, 16])["token_ids"].shape == (3, 8)
    assert small(["好"], length=[16, 4])["token_ids"].shape == (1, 4)
    cut = small(TEXTS, length=4)["token_ids"]
    assert cut.shape == (3, 4)
    assert cut[0].tolist() == small.encode(TEXTS[0], max_length=4).token_ids
    assert small(TEXTS, max_length=5, length=8)["padding_mask"].sum(1).max() == 5


def test_kinds_of_batches(small):
    expected = small(TEXTS)["token_ids"].tolist()
    kinds = [tuple(TEXTS), iter(TEXTS), np.array(TEXTS), np.array(TEXTS, object)]
    kinds += [[text.encode() for text in TEXTS], [np.str_(text) for text in TEXTS]]
    for texts in kinds:
        assert small(texts)["token_ids"].tolist() == expected
    assert small(TEXTS[0])["token_ids"].tolist() == [small.encode(TEXTS[0]).token_ids]


def test_empty_batch(small):
    assert small([])["token_ids"].shape == (0, 0)
    arrays = small([], length=8)
    assert {name: a.shape for name, a in arrays.items()} == {
        "token_ids": (0, 8),
        "segment_ids": (0, 8),
        "padding_mask": (0, 8),
    }


def test_batches_that_cannot_be(small):
    with pytest.raises(ValueError, match="3 texts but 1 pairs"):
        small(TEXTS, ["好"])
    with pytest.raises(ValueError, match="max_length=9 does not fit into length=8"):
        small(TEXTS, max_length=9, length=8)
    with pytest.raises(ValueError, match="no room for the special tokens"):
        small([], length=1)
    with pytest.raises(ValueError, match="no bucket"):
        small(TEXTS, length=[])
    with pytest.raises(TypeError, match="`length` must be an int, not 8.5"):
        small(TEXTS, length=8.5)
    with pytest.raises(TypeError, match="`texts` must be a sequence of str, not dict"):
        small({"text": "今"})
    with pytest.raises(TypeError, match="`texts` must be a sequence of str, not None"):
        small(None)
    with pytest.raises(TypeError, match=r"`texts\[1\]` must be a str, not tuple"):
        small(["今", ("今", "天")])
    with pytest.raises(ValueError, match="one-dimensional"):
        small(np.array([["今", "天"]]))
    no_pad = Tokenizer(SMALL, pad_token=None)
    assert no_pad(["今", "天"])["token_ids"].tolist() == [[2, 5, 3], [2, 6, 3]]
    with pytest.raises(ValueError, match="no `pad_token`"):
        no_pad(["今", "今天"])


# --- bad input ------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", " ", "\0", "\0\0 \u200b", "\u0301", "\ufffd"])
def test_texts_with_nothing_in_them(released, text):
    encoding = released.encode(text)
    assert encoding.token_ids == [101, 102]
    assert encoding.offsets == [None, None]
    assert released(text)["token_ids"].tolist() == [[101, 102]]


def test_nul_is_dropped_and_counted(released):
    encoding = released.encode("今\0天\0")
    assert encoding.tokens == ["[CLS]", "今", "天", "[SEP]"]
    assert encoding.offsets == [None, (0, 1), (2, 3), None]


def test_lone_surrogates_are_unknown(released):
    encoding = released.encode("今\ud800a \udfff天")
    assert encoding.token_ids == [101, 317, 100, 100, 1466, 102]
    assert encoding.offsets == [None, (0, 1), (1, 3), (4, 5), (5, 6), None]


def test_bytes_are_utf8(released):
    assert released.encode("今天".encode()) == released.encode("今天")
    with pytest.raises(ValueError, match="not UTF-8 .at byte 3.*gb18030"):
        released.encode("今".encode() + b"\xff\xfe")
    with pytest.raises(ValueError, match=r"`texts\[1\]` is bytes"):
        released(["今", b"\xe4\xbb"])


@pytest.mark.parametrize(
    "value, hint",
    [
        (None, "missing value"),
        (float("nan"), "missing value"),
        (3, "convert it with `str`"),
        (["今", "天"], r"tokenizer\(texts\)"),
        (np.array(["今"]), r"tokenizer\(texts\)"),
    ],
)
def test_texts_that_are_not_text(released, value, hint):
    with pytest.raises(TypeError, match=f"`text` must be a str.*{hint}"):
        released.encode(value)
    if value is not None:
        with pytest.raises(TypeError, match="`pair` must be a str"):
            released.encode("今", value)


def test_max_length_too_small(small):
    for max_length, texts in ((1, ["今"]), (2, ["今", "天"]), (0, [""])):
        with pytest.raises(ValueError, match="no room for the special tokens"):
            small.encode(*texts, max_length=max_length)
    with pytest.raises(ValueError, match=r"\[CLS\] \[SEP\] \[CLS\] \[SEP\]: use at"):
        small.encode("今", "天", 3, repeat_cls=True)
    assert small.encode("今", max_length=2).tokens == ["[CLS]", "[SEP]"]
    with pytest.raises(ValueError, match="0 or more, not -1"):
        small.encode("今", max_length=-1)
    for wrong in (2.5, "8", True, [8]):
        with pytest.raises(TypeError, match="`max_length` must be an int"):
            small.encode("今", max_length=wrong)


def test_truncate_from(small):
    with pytest.raises(ValueError, match="'right', 'left' or an int, not 'middle'"):
        small.encode("今", truncate_from="middle")
    with pytest.raises(TypeError, match="`truncate_from` must be an int, not 1.5"):
        small.encode("今", truncate_from=1.5)
    with pytest.raises(ValueError, match="position no longer exists"):
        small.encode("今天好", max_length=2, truncate_from=3)


@pytest.mark.parametrize("ids", [[13], [-1], [5, 2**40], np.array([5, -1]), [2**70]])
def test_decode_out_of_range(small, ids):
    with pytest.raises((ValueError, TypeError), match="`token_ids`"):
        small.decode(ids)


def test_decode_names_the_wrong_id(small):
    with pytest.raises(
        ValueError, match="-1 at position 1; the vocabulary has the ids"
    ):
        small.decode([5, -1])
    with pytest.raises(ValueError, match="0 to 12"):
        small.id_to_token(13)


@pytest.mark.parametrize(
    "ids", [[5.0], [5, 6.5], np.array([5.0]), ["今"], [True], [None], ["5"]]
)
def test_decode_wants_integers(small, ids):
    with pytest.raises(TypeError, match="`token_ids` must be integers"):
        small.decode(ids)


def test_decode_takes_one_row(small):
    for ids in ([[5, 6]], np.array([[5]]), 5):
        with pytest.raises(ValueError, match="one sequence of ids"):
            small.decode(ids)
    assert small.decode([]) == small.decode(np.zeros(0)) == ""
    assert small.decode(np.array([2, 5, 6, 3], np.uint8)) == "今天"
    assert small.decode(iter([5, 6])) == "今天"
    assert small.decode(small.encode("今天 a Goods，好").token_ids) == "今天a goods，好"


# --- vocabularies ---------------------------------------------------------------


def test_missing_special_tokens():
    with pytest.raises(ValueError) as caught:
        Tokenizer(["[PAD]", "[CLS]", "[SEP]", "a"])
    message = str(caught.value)
    assert "lacks [UNK], [MASK]" in message
    assert "unk_token=None, mask_token=None" in message


def test_without_special_tokens():
    names = ("unk_token", "pad_token", "cls_token", "sep_token", "mask_token")
    tokenizer = Tokenizer(["a", "##b"], **dict.fromkeys(names))
    encoding = tokenizer.encode("ab a", "a")
    assert encoding.tokens == ["a", "##b", "a", "a"]
    assert encoding.segment_ids == [0, 0, 0, 1]
    assert tokenizer.pad_token_id is tokenizer.mask_token_id is None
    with pytest.raises(ValueError, match="'c' is not in the vocabulary.*`unk_token`"):
        tokenizer.encode("a c")
    with pytest.raises(ValueError, match="'c' is not in the vocabulary"):
        tokenizer.token_to_id("c")
    with pytest.raises(ValueError, match="'c' is not in the vocabulary"):
        tokenizer(["a", "c"])


def test_other_special_tokens():
    tokenizer = Tokenizer(
        ["<s>", "</s>", "?", "<pad>", "<mask>", "a"],
        unk_token="?",
        pad_token="<pad>",
        cls_token="<s>",
        sep_token="</s>",
        mask_token="<mask>",
    )
    assert tokenizer(["a", "a b"])["token_ids"].tolist() == [[0, 5, 1, 3], [0, 5, 2, 1]]


def test_kinds_of_vocabularies(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(SMALL) + "\n", "utf-8")
    expected = Tokenizer(SMALL).encode("今 Goods").token_ids
    mapping = {token: i for i, token in enumerate(SMALL)}
    for vocabulary in (path, str(path), tuple(SMALL), mapping):
        assert Tokenizer(vocabulary).encode("今 Goods").token_ids == expected
    assert Tokenizer.from_folder(tmp_path).encode("今 Goods").token_ids == expected


def test_vocabularies_that_cannot_be(tmp_path):
    with pytest.raises(
        ValueError, match="has 'a' twice, as ids 5 and 7 .lines 6 and 8"
    ):
        Tokenizer([*SPECIAL, "a", "b", "a"])
    with pytest.raises(ValueError, match="ids of a vocabulary must be 0 to 1"):
        Tokenizer({"a": 0, "b": 2})
    with pytest.raises(ValueError, match="ids of a vocabulary must be 0 to 1"):
        Tokenizer({"a": 0, "b": 0})
    with pytest.raises(TypeError, match="entry 5 is 7"):
        Tokenizer([*SPECIAL, 7])
    for wrong in (7, None, b"vocab.txt", set(SMALL)):
        with pytest.raises(TypeError):
            Tokenizer(wrong)
    with pytest.raises(FileNotFoundError, match="no vocabulary file"):
        Tokenizer(tmp_path / "vocab.txt")
    with pytest.raises(FileNotFoundError, match="no vocab.txt"):
        Tokenizer.from_folder(tmp_path)
    with pytest.raises(IsADirectoryError, match="from_folder"):
        Tokenizer(tmp_path)


def test_keep_tokens():
    tokenizer = Tokenizer(SMALL, keep_tokens=[0, 1, 2, 3, 4, 7, 5])
    assert tokenizer.vocabulary == [*SPECIAL, "好", "今"]
    assert tokenizer.keep_tokens == [0, 1, 2, 3, 4, 7, 5]
    assert tokenizer.encode("今天好").token_ids == [2, 6, 1, 5, 3]
    with pytest.raises(ValueError, match="`keep_tokens` has 13 at position 0"):
        Tokenizer(SMALL, keep_tokens=[13])
    with pytest.raises(ValueError, match="lacks"):
        Tokenizer(SMALL, keep_tokens=[5])
    with pytest.raises(ValueError, match="twice"):
        Tokenizer(SMALL, keep_tokens=[0, 1, 2, 3, 4, 4])
    with pytest.raises(ValueError, match="not both"):
        Tokenizer(SMALL, keep_tokens=[0, 1, 2, 3, 4], simplified=True)


def test_simplified():
    tokenizer = Tokenizer([*SMALL, "今天", "##好", "a，", "--"], simplified=True)
    assert tokenizer.vocabulary == SMALL
    assert tokenizer.keep_tokens == list(range(len(SMALL)))


def test_save(tmp_path, released):
    path = released.save(tmp_path / "new" / "folder")
    assert path.read_bytes() == (GOLDEN / "vocab.txt").read_bytes()
    simplified = Tokenizer(GOLDEN / "vocab.txt", simplified=True)
    simplified.save(tmp_path)
    again = Tokenizer.from_folder(tmp_path)
    assert again.vocabulary == simplified.vocabulary
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "vocab.txt"]


def test_save_keeps_odd_lines(tmp_path):
    """The BERT vocabularies have U+2028 in two tokens."""
    content = "\n".join([*SPECIAL, "\u2028", "##\u2028", "今"]) + "\n"
    (tmp_path / "vocab.txt").write_bytes(content.encode())
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert tokenizer.vocabulary == [*SPECIAL, "", "##", "今"]
    assert tokenizer.encode("\u2028今").token_ids == [2, 7, 3]
    assert tokenizer.decode([5, 6, 7]) == "今"
    path = tokenizer.save(tmp_path / "copy")
    assert path.read_bytes() == content.encode()


# --- sharing, speed -------------------------------------------------------------


def test_pickle(released):
    for tokenizer in (
        released,
        Tokenizer(SMALL, lowercase=False, token_translate={"，": "[SEP]"}),
        Tokenizer(SMALL, zero_segments=True, pre_tokenize=str.split),
    ):
        data = pickle.dumps(tokenizer)
        copy = pickle.loads(data)
        for text in TEXTS:
            assert copy.encode(text, "今，天") == tokenizer.encode(text, "今，天")
        assert copy.vocabulary == tokenizer.vocabulary
    # The words met so far do not travel.
    assert len(pickle.dumps(released)) < 400_000


def encode_all(tokenizer, texts):
    return [tokenizer.encode(text).token_ids for text in texts]


def test_other_processes(released):
    texts = [f"今天 word{i} Goods" for i in range(50)]
    with get_context("spawn").Pool(1) as pool:
        found = pool.apply(encode_all, (released, texts))
    assert found == encode_all(released, texts)


def test_threads(monkeypatch):
    """Eight threads on one tokenizer whose memory of words overflows all the time."""
    monkeypatch.setattr("bert4keras3.text.wordpiece._MAX_REMEMBERED_WORDS", 3)
    shared = Tokenizer(GOLDEN / "vocab.txt")
    texts = [f"今天 word{i % 17}Σ wo{i % 5}rk，É{i}" for i in range(400)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda text: shared.encode(text), texts))
    alone = Tokenizer(GOLDEN / "vocab.txt")
    for text, encoding in zip(texts, found, strict=True):
        expected = alone.encode(text)
        assert encoding == expected
        assert encoding.offsets == expected.offsets


def test_words_are_remembered_in_bounded_memory(monkeypatch):
    monkeypatch.setattr("bert4keras3.text.wordpiece._MAX_REMEMBERED_WORDS", 10)
    tokenizer = Tokenizer(SMALL)
    for i in range(100):
        encoding = tokenizer.encode(f"word{i} {'x' * 1000}{i}")
        assert len(encoding.tokens) == len(encoding.offsets) == 4
    words = tokenizer._splitter._words
    for kept in (words._remembered, words._remembered_ids, words._remembered_spans):
        assert 0 < len(kept) <= 10
        assert max(map(len, kept)) < 100


LONG = {
    "ideographs": "今天" * 50_000,
    "one word": "a" * 100_000,
    "unknown words of the greatest length": ("z" * 199 + "œ ") * 500,
    "words": "playing goods " * 7_000,
    "spaces": " " * 100_000,
    "marks": "\u0301" * 100_000,
    "sigmas": "Σ" * 100_000,
    "sigmas among points": "Σ." * 50_000,
    "moving marks": "\u302e\u1b44" * 50_000,
    "syllables": "한" * 100_000,
    "rare ideographs": "\U00020000" * 100_000,
    "controls": "\0\u200b" * 50_000,
    "punctuation": "。." * 50_000,
    "brackets": "[MASK" * 20_000,
}


@pytest.mark.parametrize("name", LONG)
def test_long_texts_take_linear_time(released, name):
    """A step quadratic in 100,000 characters would take minutes."""
    start = time.perf_counter()
    encoding = released.encode(LONG[name], allow_special=["[MASK]"])
    assert len(encoding.offsets) == len(encoding.token_ids)
    short = released.encode(LONG[name], LONG[name], max_length=512)
    assert len(short) <= 512
    assert isinstance(released.decode(encoding.token_ids), str)
    assert time.perf_counter() - start < 20
