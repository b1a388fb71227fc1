"""Word-level tokenization, by jieba and by other functions."""

import importlib
import json
import pickle
import random
import subprocess
import sys
from pathlib import Path

import pytest

from bert4keras3.text import Tokenizer, normalize_text
from bert4keras3.text.pre_tokenization import get

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [
    *SPECIAL,
    "今天",
    "天气",
    "好",
    "今",
    "天",
    "非",
    "good",
    "##s",
    "，",
    "ceo",
    "ο",
]
ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "tokenizer"


def by_two(text):
    """Cuts into words of two characters."""
    return [text[i : i + 2] for i in range(0, len(text), 2)]


def test_words_come_first():
    tokenizer = Tokenizer(WORDS, pre_tokenize=by_two)
    encoding = tokenizer.encode("今天非好 g")
    assert encoding.tokens[1:-1] == ["今天", "非", "好", "g"]
    assert encoding.offsets[1:-1] == [(0, 2), (2, 3), (3, 4), (5, 6)]
    assert Tokenizer(WORDS).tokenize("今天")[1:-1] == ["今", "天"]


def test_offsets_point_into_the_text_as_given():
    tokenizer = Tokenizer(WORDS, pre_tokenize=by_two)
    text = "İ今天\u0301Go\u0301ods"
    encoding = tokenizer.encode(text)
    assert encoding.tokens[1:-1] == ["i", "今", "天", "g", "oo", "ds"]
    covered = [text[slice(*span)] for span in encoding.offsets[1:-1]]
    assert covered == ["İ", "今", "天", "G", "o\u0301o", "ds"]


def test_the_function_sees_the_lower_cased_text():
    seen = []

    def pre_tokenize(text):
        seen.append(text)
        return [text]

    Tokenizer(WORDS, pre_tokenize=pre_tokenize).encode("Été ΟΣ")
    Tokenizer(WORDS, pre_tokenize=pre_tokenize, lowercase=False).encode("Été")
    assert seen == ["ete ος", "Été"]


def test_white_space_may_be_left_out():
    tokenizer = Tokenizer(WORDS, pre_tokenize=str.split)
    encoding = tokenizer.encode("  CEO 今天\n\n 好")
    assert encoding.tokens[1:-1] == ["ceo", "今天", "好"]
    assert encoding.offsets[1:-1] == [(2, 5), (6, 8), (11, 12)]


def test_words_that_are_not_in_the_text():
    tokenizer = Tokenizer(WORDS, pre_tokenize=lambda text: ["好", "今天"])
    encoding = tokenizer.encode("今天好")
    assert encoding.token_ids == [2, 7, 5, 3]
    with pytest.raises(ValueError, match="gave '今天', which is not in the rest"):
        _ = encoding.offsets


def test_special_tokens_and_words():
    tokenizer = Tokenizer(WORDS, pre_tokenize=by_two)
    encoding = tokenizer.encode("今天[MASK]天气", allow_special=["[MASK]"])
    assert encoding.tokens[1:-1] == ["今天", "[MASK]", "天气"]
    assert encoding.offsets[1:-1] == [(0, 2), (2, 8), (8, 10)]


def test_unknown_names():
    with pytest.raises(
        ValueError, match=r"no pre-tokenizer 'lac'; known are \['jieba'"
    ):
        Tokenizer(WORDS, pre_tokenize="lac")
    with pytest.raises(TypeError, match="a name or a function"):
        Tokenizer(WORDS, pre_tokenize=3)
    assert get(None) is None
    assert get(by_two) is by_two


def test_without_jieba(monkeypatch):
    def refuse(name, *arguments, **kwargs):
        if name.split(".")[0] == "jieba":
            raise ModuleNotFoundError("No module named 'jieba'")
        return original(name, *arguments, **kwargs)

    original = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", refuse)
    monkeypatch.delitem(sys.modules, "jieba", raising=False)
    with pytest.raises(ImportError, match="jieba, which is not installed.*`words`"):
        Tokenizer(WORDS, pre_tokenize="jieba")
    assert Tokenizer(WORDS).encode("今天").tokens


def test_jieba_is_imported_late():
    code = "import sys, bert4keras3.text; sys.exit('jieba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=300)
    assert done.returncode == 0


def test_jieba():
    pytest.importorskip("jieba")
    tokenizer = Tokenizer(WORDS, pre_tokenize="jieba")
    text = "CEO说今天天气好，Goods"
    encoding = tokenizer.encode(text)
    assert encoding.tokens[-3:] == ["good", "##s", "[SEP]"]
    covered = [text[slice(*span)] for span in encoding.offsets if span]
    assert "".join(covered) == text
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert copy.encode(text) == encoding
    assert tokenizer.encode("").tokens == ["[CLS]", "[SEP]"]
    assert len(tokenizer.encode("今天天气好" * 20_000)) > 20_000


def dictionary_texts():
    """Texts of words, halves of words and what stands between them."""
    import jieba

    jieba.dt.check_initialized()
    words = sorted(jieba.dt.FREQ)[::997]
    assert len(words) > 300
    between = [
        "",
        "",
        "a",
        "B1",
        " ",
        "。",
        "%",
        "-",
        "\r\n",
        "\u2028",
        "T",
        "𠮷",
        "鿿",
    ]
    generator = random.Random(0)
    for _ in range(2000):
        pieces = []
        for _ in range(generator.randrange(8)):
            word = generator.choice(words)
            pieces += [word[: generator.randint(1, 4)], generator.choice(between)]
        yield "".join(pieces)


def test_jieba_cuts_as_jieba_does():
    jieba = pytest.importorskip("jieba")
    ours = get("jieba")
    cases = json.loads((GOLDEN / "tokenizer_cases.json").read_text("utf-8"))
    texts = [case["text"] for name in ("lower", "cased") for case in cases[name]]
    texts += ["", "1", "a", "中", "abc 中1文", "研究生命起源的AT&T公司", "\r\n\n", "%%"]
    for text in [*texts, *dictionary_texts()]:
        assert ours(text) == list(jieba.cut(text, HMM=False)), text
    for case in cases["jieba_word_level"]:
        assert ours(normalize_text(case["text"])) == case["pre"]


def test_words_added_to_jieba_count():
    pytest.importorskip("jieba")
    code = """
import jieba
from bert4keras3.text.pre_tokenization import get
cut = get("jieba")
text = "扁桃仁糖浆味"
assert cut(text) == list(jieba.cut(text, HMM=False)) != [text]
jieba.add_word(text)
assert cut(text) == list(jieba.cut(text, HMM=False)) == [text]
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=300)
    assert done.returncode == 0


def test_jieba_is_quiet():
    pytest.importorskip("jieba")
    code = (
        "from bert4keras3.text.pre_tokenization import get; list(get('jieba')('今天'))"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
