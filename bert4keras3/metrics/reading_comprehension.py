"""Scores of CMRC 2018: answers that are spans of a text, compared piece by piece.

Both scores equal those of the official `cmrc2018_evaluate.py` (version v5, special;
https://github.com/ymcui/cmrc2018), which needs Python 2 and NLTK.

Text is put into lower case. A Chinese character (U+4E00 to U+9FA5) is a piece; the
text between two of them is cut by the rules of the Penn Treebank, as one sentence.
A list of punctuation marks is dropped, and what stood on both sides of one is joined.
A single `…` is not dropped: the official list has only the pair, which no character
equals.
"""

import re

PUNCTUATION = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")

# What the Penn Treebank's rules come to for lower case without the marks above, in the
# order in which they apply. An opening quote becomes ``, a closing one ''.
_BEFORE = (
    (r"[«‘„]", r" \g<0> "),
    (r'^"', " `` "),
    (r"([ (\[{<])(?:\"|'')", r"\1 `` "),
    (r"(?<!\w)'(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w)", "' "),
    (r"([^.])\.([\])}>\"'» ]*)\s*$", r"\1 . \2 "),
    (r",(\D)", r" , \1"),
    (r",$", " , "),
    (r"\.{2,}|[;@#$%&\u2012-\u2015]", r" \g<0> "),
    (r"([^.])\.([\])}>\"']*)\s*$", r"\1 .\2 "),
    (r"[?!]", r" \g<0> "),
    (r"([^'])' ", r"\1 ' "),
    (r"[\[\](){}<>]", r" \g<0> "),
)
_AFTER = (
    (r"»", " » "),
    (r"''|\"", " '' "),
    (r"\s+", " "),
    (r"([^' ])('[smd]?) ", r"\1 \2 "),
    (r"([^' ])('ll|'re|'ve|n't) ", r"\1 \2 "),
    (r"\b(can)(not)\b|\b(d)('ye)\b|\b(gim)(me)\b|\b(gon)(na)\b", None),
    (r"\b(got)(ta)\b|\b(lem)(me)\b|\b(more)('n)\b|\b(wan)(na)(?=\s)", None),
    (r" ('t)(is|was)\b", r" \1 \2 "),
)


def _words(text):
    """Pieces of a text without Chinese characters."""
    for pattern, by in _BEFORE:
        text = re.sub(pattern, by, text)
    text = f" {text} "
    for pattern, by in _AFTER:
        # Two words written as one: the groups of the alternative that was found.
        text = re.sub(pattern, by or _apart, text)
    return text.split()


def _apart(match):
    return f" {' '.join(filter(None, match.groups()))} "


def _without_punctuation(text):
    return "".join(each for each in text.lower().strip() if each not in PUNCTUATION)


def _pieces(text):
    found = []
    for part in re.split("([\u4e00-\u9fa5])", _without_punctuation(text)):
        is_character = len(part) == 1 and "\u4e00" <= part <= "\u9fa5"
        found += [part] if is_character else _words(part)
    return found


def _longest_common_run(one, other):
    """Length of the longest run of pieces that is in both lists."""
    longest, previous = 0, [0] * (len(other) + 1)
    for piece in one:
        current = [0]
        for place, candidate in enumerate(other):
            current.append(previous[place] + 1 if piece == candidate else 0)
        longest, previous = max(longest, *current), current
    return longest


def cmrc2018_f1(answers, prediction):
    """F1 of an answer against the best of several right ones.

        precision = c / |prediction|,  recall = c / |answer|
        F1 = 2 precision * recall / (precision + recall)

    Lengths are in pieces, and `c` is the length of the longest run of pieces that is in
    both. The official script calls it a longest common subsequence; in fact nothing may
    stand between the pieces: it is a substring.

    Args:
        answers: list of strings, the right answers.
        prediction: string.

    Returns:
        Float from 0 to 1.

    Raises:
        ValueError: no right answer.

    Example:

    >>> round(cmrc2018_f1(["1998年5月", "1998年"], "于1998年"), 3)
    0.8
    """
    predicted = _pieces(prediction)
    scores = []
    for answer in _checked(answers):
        pieces = _pieces(answer)
        common = _longest_common_run(pieces, predicted)
        if common:
            precision, recall = common / len(predicted), common / len(pieces)
            scores.append(2 * precision * recall / (precision + recall))
    return max(scores, default=0.0)


def cmrc2018_exact_match(answers, prediction):
    """1 if an answer is right but for case and punctuation, otherwise 0.

    Args:
        answers: list of strings, the right answers.
        prediction: string.

    Returns:
        Integer 0 or 1.

    Raises:
        ValueError: no right answer.

    Example:

    >>> cmrc2018_exact_match(["《红楼梦》"], "红楼梦。")
    1
    """
    right = {_without_punctuation(answer) for answer in _checked(answers)}
    return int(_without_punctuation(prediction) in right)


def _checked(answers):
    if isinstance(answers, str) or not answers:
        raise ValueError(
            f"`answers` is a list of one or more right answers. Received {answers!r}."
        )
    return answers


def cmrc2018_scores(references, predictions):
    """Means over all questions, in percent, as the leaderboard has them.

    A question without a prediction is skipped: it scores 0 and counts.

    Args:
        references: dict from the questions' ids to lists of right answers.
        predictions: dict from ids to strings. Ids that are not in `references` do not
            count.

    Returns:
        Dict with `f1`, `exact_match`, `average` of the two, `total` and `skipped`.

    Raises:
        ValueError: no question, or one without a right answer.

    Example:

    >>> scores = cmrc2018_scores({"1": ["北京"], "2": ["上海"]}, {"1": "北京市"})
    >>> scores["f1"], scores["exact_match"], scores["skipped"]
    (40.0, 0.0, 1)
    """
    if not references:
        raise ValueError("`references` maps ids to right answers. Received none.")
    f1 = exact = skipped = 0
    for key, answers in references.items():
        if key in predictions:
            f1 += cmrc2018_f1(answers, predictions[key])
            exact += cmrc2018_exact_match(answers, predictions[key])
        else:
            skipped += 1
    total = len(references)
    f1, exact = 100.0 * f1 / total, 100.0 * exact / total
    return {
        "f1": f1,
        "exact_match": exact,
        "average": (f1 + exact) / 2,
        "total": total,
        "skipped": skipped,
    }
