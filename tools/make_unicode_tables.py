"""Write the frozen Unicode table of `bert4keras3.text`.

Python's `unicodedata` and `str.lower` follow the Unicode version of the interpreter, so
the same text would get other token ids on another Python. This script records what
Unicode 14 (Python 3.11) says about every code point, once, and the library reads that
record only.

    python3.11 tools/make_unicode_tables.py bert4keras3/text/unicode_14.npz
"""

import argparse
import sys
import unicodedata
from pathlib import Path

import numpy as np

NUM_CODE_POINTS = 0x110000
UNICODE_VERSION = "14.0.0"

# The bits of `classes`; `bert4keras3.text.unicode_tables` names the same ones.
PUNCTUATION, CJK, SPACE, CONTROL, MARK, CASED, CASE_IGNORABLE, DIGIT = (
    1 << i for i in range(8)
)

CJK_RANGES = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0x2F800, 0x2FA1F),
)
ASCII_PUNCTUATION = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
HANGUL_SYLLABLES = range(0xAC00, 0xD7A4)


def ends_in_final_sigma(text):
    """Says whether a capital sigma after `text` becomes a final sigma."""
    return (text + "\N{GREEK CAPITAL LETTER SIGMA}").lower()[-1] == (
        "\N{GREEK SMALL LETTER FINAL SIGMA}"
    )


def classify(code):
    """The class bits of one code point."""
    char, bits = chr(code), 0
    category = unicodedata.category(char)
    if char in ASCII_PUNCTUATION or category.startswith("P"):
        bits |= PUNCTUATION
    if any(first <= code <= last for first, last in CJK_RANGES):
        bits |= CJK
    # Line and paragraph separators end words too; vertical tab, NEL and the
    # information separators are controls and vanish.
    if char in " \n\r\t" or (char.isspace() and category != "Cc"):
        bits |= SPACE
    elif code in (0, 0xFFFD) or category in ("Cc", "Cf"):
        bits |= CONTROL
    if category == "Mn":
        bits |= MARK
    if ends_in_final_sigma(char):
        bits |= CASED
    elif ends_in_final_sigma("a" + char):
        bits |= CASE_IGNORABLE
    if category == "Nd":
        bits |= DIGIT
    return bits


def run_lengths(values):
    """Compresses an array to the starts and values of its constant runs."""
    starts = np.flatnonzero(np.diff(values, prepend=values[0] ^ 1))
    return starts.astype(np.uint32), values[starts]


def ragged(mapping):
    """Packs `{code: string}` into sorted keys, row ends and the joined codes."""
    keys = np.array(sorted(mapping), np.uint32)
    ends = np.cumsum([len(mapping[key]) for key in keys]).astype(np.uint32)
    codes = [ord(char) for key in keys for char in mapping[key]]
    return keys, ends, np.array(codes, np.uint32)


def build():
    """Asks this interpreter about every code point.

    Returns:
        A dict of arrays: the content of the file.
    """
    chars = [chr(code) for code in range(NUM_CODE_POINTS)]
    classes = np.array([classify(code) for code in range(NUM_CODE_POINTS)], np.uint8)
    combining = np.array([unicodedata.combining(char) for char in chars], np.uint8)
    lower = {ord(char): char.lower() for char in chars if char.lower() != char}
    decomposition = {}
    for code, char in enumerate(chars):
        # Hangul decomposes by arithmetic, which needs no table.
        if code not in HANGUL_SYLLABLES:
            decomposed = unicodedata.normalize("NFD", char)
            if decomposed != char:
                decomposition[code] = decomposed
    arrays = {"version": np.array(unicodedata.unidata_version)}
    for name, values in (("classes", classes), ("combining", combining)):
        starts, values = run_lengths(values)
        arrays |= {f"{name}_starts": starts, f"{name}_values": values}
    for name, mapping in (("lower", lower), ("decomposition", decomposition)):
        keys, ends, codes = ragged(mapping)
        arrays |= {f"{name}_keys": keys, f"{name}_ends": ends, f"{name}_codes": codes}
    return arrays


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", type=Path, help="the .npz file to write")
    arguments = parser.parse_args()
    if unicodedata.unidata_version != UNICODE_VERSION:
        sys.exit(
            f"This Python knows Unicode {unicodedata.unidata_version}, the frozen "
            f"table is Unicode {UNICODE_VERSION}: run this script with Python 3.11."
        )
    np.savez_compressed(arguments.target, **build())


if __name__ == "__main__":
    main()
