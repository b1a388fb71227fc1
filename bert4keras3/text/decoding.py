"""From tokens back to readable text."""

import functools
import re
from collections.abc import Iterable

from bert4keras3.text.unicode_tables import CJK, DIGIT, PUNCTUATION, unicode_tables

# Marks that no space follows: the full-width and Chinese ones, and some ASCII ones.
_TIGHT = (
    "·–—‘’‛“”„‟…‧"
    "\u3000、。〃〈〉《》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿"
    "﹏﹑﹔！＂＃＄％＆＇（）＊＋，－／：；＜＝＞？＠［＼］＾＿｀｛｜｝～｟｠｡｢｣､"
    "+-/={(<["
)


def join_tokens(tokens: Iterable[str]) -> str:
    """Joins tokens to text with spaces only where Chinese and English want them.

    Pieces are glued, ideographs stand close, words are set apart; a space follows an
    ASCII punctuation mark but not a Chinese one; `don' t` and `3. 14` are mended.
    Special tokens, that is all in square brackets, are left out.

    Args:
        tokens: str tokens.

    Returns:
        A str.

    Example:

    >>> join_tokens(["[CLS]", "天", "气", "very", "go", "##od", "！"])
    '天气very good！'
    """
    parts: list[str] = []
    last = ""
    for token in tokens:
        if is_special(token):
            continue
        if token.startswith("##"):
            part = token[2:]
        elif len(token) == 1 and _is(token, CJK):
            part = token
        elif len(token) == 1 and _is(token, PUNCTUATION):
            part = token + " "
        elif last and _is(last, CJK):
            part = token
        else:
            part = " " + token
        parts.append(part)
        last = part[-1:] or last
    text = re.sub(" +", " ", "".join(parts))
    text = re.sub("' (re|m|s|t|ve|d|ll) ", r"'\1 ", text)
    text = re.sub(f"([{re.escape(_TIGHT)}]) ", r"\1", text)
    return _decimal_point().sub(r"\1\2", text).strip()


def is_special(token: str) -> bool:
    """Says whether a token is in square brackets, like `[CLS]` or `[unused1]`."""
    return token.startswith("[") and token.endswith("]")


@functools.cache
def _decimal_point():
    tables = unicode_tables()
    ranges = tables.ranges((tables.classes & DIGIT) != 0)
    digit = "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)
    return re.compile(rf"([{digit}]\.) ([{digit}])")


def _is(char, bit):
    return bool(unicode_tables().classes[ord(char)] & bit)
