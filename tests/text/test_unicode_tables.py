"""The frozen table is Unicode 14, and nobody asks the interpreter instead."""

import ast
import hashlib
import importlib.util
import unicodedata
from pathlib import Path

import numpy as np
import pytest

import bert4keras3.text
from bert4keras3.text.normalization import normalize_text, space_out
from bert4keras3.text.unicode_tables import (
    CASE_IGNORABLE,
    CASED,
    CJK,
    CONTROL,
    DIGIT,
    MARK,
    NUM_CODE_POINTS,
    PUNCTUATION,
    SPACE,
    unicode_tables,
)

ROOT = Path(__file__).parents[2]
PACKAGE = Path(bert4keras3.text.__file__).parent
same_unicode = pytest.mark.skipif(
    unicodedata.unidata_version != "14.0.0",
    reason="this Python's own tables are of another Unicode version",
)


@pytest.fixture(scope="module")
def chars():
    return [chr(code) for code in range(NUM_CODE_POINTS)]


def having(bit):
    return set(np.flatnonzero(unicode_tables().classes & bit).tolist())


def test_version():
    tables = unicode_tables()
    assert tables.version == "14.0.0"
    assert tables.classes.shape == tables.combining.shape == (0x110000,)
    assert tables.classes.dtype == tables.combining.dtype == np.uint8
    with pytest.raises(ValueError, match="read-only"):
        tables.classes[0] = 1


@same_unicode
def test_categories(chars):
    by_category = {}
    for code, char in enumerate(chars):
        by_category.setdefault(unicodedata.category(char), set()).add(code)
    assert having(MARK) == by_category["Mn"]
    assert having(DIGIT) == by_category["Nd"]
    punctuation = {*range(33, 48), *range(58, 65), *range(91, 97), *range(123, 127)}
    for category, codes in by_category.items():
        if category.startswith("P"):
            punctuation |= codes
    assert having(PUNCTUATION) == punctuation
    space = by_category["Zs"] | by_category["Zl"] | by_category["Zp"] | {9, 10, 13}
    assert having(SPACE) == space
    assert having(CONTROL) == (by_category["Cc"] | by_category["Cf"] | {0xFFFD}) - space


@same_unicode
def test_mappings(chars):
    tables = unicode_tables()
    for code, char in enumerate(chars):
        assert tables.lower.get(code, char) == char.lower()
        assert tables.decompose(code) == unicodedata.normalize("NFD", char)
        assert tables.combining[code] == unicodedata.combining(char)


@same_unicode
def test_case_classes(chars):
    sigma, final = "Σ", "ς"
    cased, ignorable = set(), set()
    for code, char in enumerate(chars):
        if (char + sigma).lower().endswith(final):
            cased.add(code)
        elif ("a" + char + sigma).lower().endswith(final):
            ignorable.add(code)
    assert having(CASED) == cased
    assert having(CASE_IGNORABLE) == ignorable


def test_ideographs():
    blocks = ["㐀䶿", "一\u9fff", "\uf900\ufaff", "\U00020000\U0002a6df"]
    blocks += ["\U0002a700\U0002ceaf", "\U0002f800\U0002fa1f"]
    expected = {code for a, b in blocks for code in range(ord(a), ord(b) + 1)}
    assert having(CJK) == expected
    assert not having(CJK) & (having(PUNCTUATION) | having(SPACE) | having(CONTROL))


@same_unicode
def test_the_file_is_what_the_script_writes():
    path = ROOT / "tools" / "make_unicode_tables.py"
    spec = importlib.util.spec_from_file_location("make_unicode_tables", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    built = script.build()
    with np.load(PACKAGE / "unicode_14.npz", allow_pickle=False) as stored:
        assert set(stored.files) == set(built)
        for name in built:
            np.testing.assert_array_equal(stored[name], built[name])


@pytest.mark.parametrize(
    "function, digest",
    [
        (
            normalize_text,
            "e3e607fb466100b7bf1f1367b60f28dee3f0c06a44fac868ab6846e28648b8db",
        ),
        (space_out, "69a6dc7f20ad66ce90c04f5bad53a3a765f39d847361cd48ffb70856731f5419"),
    ],
)
def test_results_do_not_depend_on_the_interpreter(function, digest):
    """The digests were taken on Python 3.11; 3.12 and 3.13 know newer Unicodes."""
    codes = [*range(0x20000), *range(0x2F800, 0x2FA20), *range(0xE0000, 0xE0200)]
    result = function("a".join(map(chr, codes))).encode("utf-8", "surrogatepass")
    assert hashlib.sha256(result).hexdigest() == digest


def test_no_module_asks_the_interpreter():
    files = sorted(PACKAGE.glob("*.py"))
    assert len(files) > 10
    for path in files:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names]
                assert "unicodedata" not in names, path
                assert getattr(node, "module", "") != "unicodedata", path
            if isinstance(node, ast.Attribute):
                # `isascii` guards the one `lower`, which is then the same everywhere.
                banned = {"casefold", "isspace", "isalpha", "isalnum", "isdigit"}
                banned |= {"upper", "title", "isupper", "islower", "isprintable"}
                assert node.attr not in banned, path
            if isinstance(node, ast.Call) and path.name != "normalization.py":
                assert getattr(node.func, "attr", "") != "lower", path
