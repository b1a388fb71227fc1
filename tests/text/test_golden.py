"""The fixtures: what bert4keras 0.11.5 gave on Python 3.7."""

import json
from pathlib import Path

import numpy as np
import pytest

from bert4keras3 import text as preparation
from bert4keras3.text import Tokenizer, read_vocabulary, simplify_vocabulary

GOLDEN = Path(__file__).parents[1] / "golden" / "tokenizer"
CASES = json.loads((GOLDEN / "tokenizer_cases.json").read_text("utf-8"))
SNIPPETS = json.loads((GOLDEN / "snippets_cases.json").read_text("utf-8"))
VOCABULARY = GOLDEN / "vocab.txt"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def spans(rematch):
    """Turns the lists of character indices of `rematch` into half-open spans."""
    return [(where[0], where[-1] + 1) if where else None for where in rematch]


def cases(name):
    assert CASES[name], f"no cases for {name}"
    return pytest.mark.parametrize(
        "case", CASES[name], ids=[str(i) for i in range(len(CASES[name]))]
    )


@pytest.fixture(scope="module")
def lower():
    return Tokenizer(VOCABULARY)


@pytest.fixture(scope="module")
def cased():
    return Tokenizer(VOCABULARY, lowercase=False)


def check_encoding(tokenizer, case):
    encoding = tokenizer.encode(case["text"])
    assert encoding.tokens == case["tokens"]
    assert encoding.token_ids == case["ids"]
    assert encoding.segment_ids == [0] * len(case["ids"])
    expected = spans(case["rematch"])
    if tokenizer.lowercase and case["text"] == "İstanbul":
        # The original counts in the lower-cased text, one character longer.
        assert expected == [None, (0, 3), (3, 6), (6, 8), (8, 9), None]
        expected = [None, (0, 2), (2, 5), (5, 7), (7, 8), None]
    assert encoding.offsets == expected
    assert tokenizer.decode(case["ids"]) == case["decode"]
    short = tokenizer.encode(case["text"], max_length=8)
    assert [short.token_ids, short.segment_ids] == case["encode_max8"]
    assert tokenizer.tokenize(case["text"], max_length=5) == case["tokens_max5"]
    arrays = tokenizer([case["text"]])
    assert arrays["token_ids"].tolist() == [case["ids"]]


@cases("lower")
def test_lower(lower, case):
    check_encoding(lower, case)


@cases("cased")
def test_cased(cased, case):
    check_encoding(cased, case)


@cases("no_special")
def test_no_special(lower, case):
    tokenizer = Tokenizer(VOCABULARY, cls_token=None, sep_token=None)
    for kwargs in ({}, {"add_special_tokens": False}):
        chosen = lower if kwargs else tokenizer
        assert chosen.encode(case["text"], **kwargs).token_ids == case["ids"]
        short = chosen.encode(case["text"], max_length=4, **kwargs)
        assert short.token_ids == case["max4"]


def test_max_word_length():
    tokenizer = Tokenizer(VOCABULARY, max_word_length=10)
    assert CASES["word_maxlen_10"]
    for case in CASES["word_maxlen_10"]:
        assert tokenizer.tokenize(case["text"]) == case["tokens"]


def test_token_translate():
    translate = {"。": "[SEP]", "的": "[unused1]"}
    tokenizer = Tokenizer(VOCABULARY, token_translate=translate)
    assert CASES["token_translate"]
    for case in CASES["token_translate"]:
        encoding = tokenizer.encode(case["text"])
        assert encoding.tokens == case["tokens"]
        assert encoding.token_ids == case["ids"]
        # `rematch` raises here; a replaced token keeps the place of the old one.
        assert encoding.offsets == Tokenizer(VOCABULARY).encode(case["text"]).offsets


def check_truncation(tokenizer, case, *texts):
    kwargs = dict(case["kwargs"])
    kwargs["max_length"] = kwargs.pop("maxlen", None)
    kwargs["repeat_cls"] = kwargs.pop("pattern", "S*E*E") == "S*ES*E"
    encoding = tokenizer.encode(*texts, **kwargs)
    assert encoding.token_ids == case["ids"]
    assert encoding.segment_ids == case["segments"]
    assert len(encoding.offsets) == len(encoding.text_ids) == len(case["ids"])
    arrays = tokenizer(*[[text] for text in texts], **kwargs)
    assert arrays["token_ids"].tolist() == [case["ids"]]
    assert arrays["segment_ids"].tolist() == [case["segments"]]


@cases("pairs")
def test_pairs(lower, case):
    check_truncation(lower, case, case["a"], case["b"])


@cases("single_truncation")
def test_single_truncation(lower, case):
    check_truncation(lower, case, case["text"])


def test_decode_random(lower):
    assert CASES["decode_random"]
    for case in CASES["decode_random"]:
        assert lower.decode(case["ids"]) == case["text"]
        assert lower.decode(np.array(case["ids"])) == case["text"]


def test_load_vocabulary():
    expected = CASES["load_vocab"]
    tokens = read_vocabulary(VOCABULARY)
    assert len(tokens) == expected["size"]
    assert {token: tokens.index(token) for token in expected["some"]} == expected[
        "some"
    ]
    kept, keep_tokens = simplify_vocabulary(tokens, SPECIAL)
    assert len(kept) == len(keep_tokens) == expected["simplified_size"]
    assert (
        keep_tokens[: len(expected["keep_tokens_head"])]
        == (expected["keep_tokens_head"])
    )
    assert keep_tokens[-20:] == expected["keep_tokens_tail"]
    assert sum(keep_tokens) == expected["keep_tokens_sum"]
    assert [tokens[i] for i in keep_tokens] == kept


def test_special_ids(lower):
    expected = CASES["special_ids"]
    assert lower.pad_token_id == expected["pad"]
    assert lower.unk_token_id == expected["unk"]
    assert lower.cls_token_id == expected["start"]
    assert lower.sep_token_id == expected["end"]
    assert lower.mask_token_id == expected["mask"]
    assert lower.vocabulary_size == expected["vocab_size"]


def test_simplified_encode():
    by_flag = Tokenizer(VOCABULARY, mask_token=None, simplified=True)
    by_ids = Tokenizer(VOCABULARY, mask_token=None, keep_tokens=by_flag.keep_tokens)
    by_list = Tokenizer(
        simplify_vocabulary(read_vocabulary(VOCABULARY), SPECIAL)[0], mask_token=None
    )
    assert CASES["simplified_encode"]
    for case in CASES["simplified_encode"]:
        for tokenizer in (by_flag, by_ids, by_list):
            assert tokenizer.encode(case["text"]).token_ids == case["ids"]


def test_word_level():
    pytest.importorskip("jieba")
    tokenizer = Tokenizer(GOLDEN / "word_vocab.txt", pre_tokenize="jieba")
    assert CASES["jieba_word_level"]
    for case in CASES["jieba_word_level"]:
        encoding = tokenizer.encode(case["text"])
        assert encoding.tokens == case["tokens"]
        assert encoding.token_ids == case["ids"]
        assert encoding.offsets == spans(case["rematch"])


def test_normalize_text():
    assert SNIPPETS["lowercase_and_normalize"]
    for case in SNIPPETS["lowercase_and_normalize"]:
        assert preparation.normalize_text(case["text"]) == case["out"]


def test_pad_sequences():
    names = {"length": "length", "value": "value", "seq_dims": "num_axes"}
    sides = {"post": "right", "pre": "left"}
    for case in (*SNIPPETS["sequence_padding"], SNIPPETS["sequence_padding_2d"]):
        kwargs = {names[k]: v for k, v in case["kwargs"].items() if k in names}
        if "mode" in case["kwargs"]:
            kwargs["side"] = sides[case["kwargs"]["mode"]]
        padded = preparation.pad_sequences(case["inputs"], **kwargs)
        assert padded.tolist() == case["out"]


def test_truncate_sequences():
    assert SNIPPETS["truncate_sequences"]
    for case in SNIPPETS["truncate_sequences"]:
        a, b = case["a"], case["b"]
        result = preparation.truncate_sequences(case["maxlen"], case["indices"], a, b)
        # The original leaves empty sequences out of what it returns.
        assert [sequence for sequence in result if sequence] == case["out"]


def test_split_text():
    assert SNIPPETS["text_segmentate"]
    for case in SNIPPETS["text_segmentate"]:
        arguments = case["maxlen"], case["seps"], case["strips"]
        assert preparation.split_text(case["text"], *arguments) == case["out"]


def test_longest_common():
    assert SNIPPETS["longest_common"]
    for case in SNIPPETS["longest_common"]:
        length, place = preparation.longest_common_substring(case["a"], case["b"])
        assert [length, list(place)] == case["substring"]
        length, pairs = preparation.longest_common_subsequence(case["a"], case["b"])
        assert [length, [list(pair) for pair in pairs]] == case["subsequence"]
