"""Tasks of the Chomsky hierarchy: a string in, an answer of fixed length out.

Rules after https://arxiv.org/abs/2207.02098. A row holds the string, then one token
`ANSWER` for every token of the answer; the model fills those in, all at once.
"""

import numpy as np

PAD, ANSWER, FIRST = 0, 1, 2  # symbols of the alphabet start at FIRST


def even_pairs(string):
    """1 if the number of neighbours that differ is even: if both ends are equal."""
    return [int(string[0] == string[-1])]


def reverse_string(string):
    return string[::-1]


def odds_first(string):
    """The 1st, 3rd, 5th ... symbol, then the 2nd, 4th, 6th ..."""
    return np.concatenate([string[::2], string[1::2]])


def bucket_sort(string):
    return np.sort(string)


# Name -> answer of a string, and the size of the alphabet.
TASKS = {
    "even_pairs": (even_pairs, 2),
    "reverse_string": (reverse_string, 2),
    "odds_first": (odds_first, 2),
    "bucket_sort": (bucket_sort, 5),
}
VOCABULARY_SIZE = FIRST + 5


def batch(task, lengths, rng):
    """One row for each length, padded to the longest that this batch could hold.

    Returns:
        token ids `(rows, 2 * max length)`, answers of that shape, and 1.0 where an
        answer stands.
    """
    rule, alphabet = TASKS[task]
    width = 2 * max(lengths)
    token_ids = np.full((len(lengths), width), PAD, "int32")
    answers = np.zeros((len(lengths), width), "int32")
    weights = np.zeros((len(lengths), width), "float32")
    for row, length in enumerate(lengths):
        string = rng.integers(alphabet, size=length)
        answer = rule(string)
        place = slice(length, length + len(answer))
        token_ids[row, :length] = string + FIRST
        token_ids[row, place] = ANSWER
        answers[row, place] = answer
        weights[row, place] = 1.0
    return token_ids, answers, weights
