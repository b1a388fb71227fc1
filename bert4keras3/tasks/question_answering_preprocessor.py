"""From questions and passages to windows of tokens, and from answers to spans."""

import dataclasses
import numbers

import keras
import numpy as np

from bert4keras3.tasks.text_preprocessor import TextPreprocessor
from bert4keras3.tasks.token_offsets import token_span
from bert4keras3.text.inputs import as_batch


@dataclasses.dataclass
class Window:
    """One piece of a passage, with its question before it.

    Attributes:
        record: number of the question.
        first: place of the first token of the passage in the row.
        offsets: half-open spans `(start, end)` in the passage, one per token.
    """

    record: int
    first: int
    offsets: list


@keras.saving.register_keras_serializable(package="bert4keras3")
class QuestionAnsweringPreprocessor(TextPreprocessor):
    """Encodes `[CLS] question [SEP] passage [SEP]`; long passages by windows.

    A passage that does not fit is cut into windows that overlap by `overlap` tokens, so
    that an answer at the end of one stands inside the next. A label is the span of the
    answer's tokens as one number, `start * T + end` (both counted in the row, the end
    inclusive), and 0, the span of `[CLS]`, for a window without the answer.

    Args:
        tokenizer: a `Tokenizer`.
        sequence_length: length `T` of a row.
        overlap: tokens that neighbouring windows share.
        max_question_length: longer questions are cut to so many tokens.

    Call arguments:
        texts: list of questions.
        pairs: list of passages.
        labels: for each question its answers, or `None`. Answers are dicts of `text`
            and `answer_start` (a list of them, of which the first that is found counts,
            or one), with `None` or an empty list where there is no answer.
        inputs_only: give the inputs without labels.

    Returns:
        `inputs`, or `(inputs, labels, weights)`, with one row per window. `inputs`
        holds `token_ids`, `segment_ids`, `padding_mask` and `span_mask` `(W, T)`, which
        is 1 for tokens of the passage and for `[CLS]`. A question whose answer is
        nowhere in the passage has weight 0, since nothing can be learned from it.

    Raises:
        ValueError: no passages, or no room for the passage beside the question.

    Example:

    >>> from bert4keras3.text import Tokenizer
    >>> vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"几个三"]
    >>> preprocessor = QuestionAnsweringPreprocessor(Tokenizer(vocabulary), 8)
    >>> answer = {"text": "三", "answer_start": 0}
    >>> inputs, labels, weights = preprocessor(["几"], ["三个"], [answer])
    >>> divmod(int(labels[0]), 8)
    (3, 3)
    """

    def __init__(
        self, tokenizer, sequence_length=512, overlap=128, max_question_length=64
    ):
        super().__init__(tokenizer, sequence_length)
        if not isinstance(sequence_length, int):
            raise ValueError(
                "Question answering takes one sequence_length, for example 512. "
                f"Received {sequence_length!r}."
            )
        if overlap < 0 or max_question_length < 1:
            raise ValueError(
                "`overlap` must be at least 0 and `max_question_length` at least 1. "
                f"Received {overlap} and {max_question_length}."
            )
        self.overlap = overlap
        self.max_question_length = max_question_length

    def __call__(self, texts, pairs=None, labels=None, inputs_only=False):
        inputs, windows = self.windows(texts, pairs)
        if inputs_only or labels is None:
            return inputs
        if len(labels) != len(pairs):
            raise ValueError(
                f"There are {len(pairs)} passages but answers to {len(labels)}. Give "
                "None for a question without an answer."
            )
        spans = [
            find_answer(passage, answers)
            for passage, answers in zip(pairs, labels, strict=True)
        ]
        classes = [self._class_of(window, spans[window.record]) for window in windows]
        weights = [spans[window.record] != NOT_FOUND for window in windows]
        return inputs, np.array(classes, "int32"), np.array(weights, "float32")

    def windows(self, questions, passages):
        """Rows of all windows, and where each comes from.

        Returns:
            `(inputs, list of Window)`.
        """
        if passages is None:
            raise ValueError(
                "Question answering takes questions and passages: pass "
                "(questions, passages)."
            )
        questions = as_batch(questions, "questions")
        passages = as_batch(passages, "passages")
        if len(questions) != len(passages):
            raise ValueError(
                f"There are {len(questions)} questions but {len(passages)} passages. "
                "Give a passage for each question."
            )
        tokenizer, length = self.tokenizer, self.sequence_length
        rows, windows = [], []
        for record, (question, passage) in enumerate(
            zip(questions, passages, strict=True)
        ):
            head = tokenizer.encode(question, max_length=self.max_question_length + 2)
            body = tokenizer.encode(passage, add_special_tokens=False)
            room = length - len(head.token_ids) - 1
            if room <= self.overlap and len(body.token_ids) > room:
                raise ValueError(
                    f"With a question of {len(head.token_ids) - 2} tokens a row of "
                    f"{length} has room for {max(room, 0)} tokens of the passage, no "
                    f"more than the overlap of {self.overlap}. Choose a longer "
                    "sequence_length, or a smaller overlap or max_question_length."
                )
            start = 0
            while True:
                piece = slice(start, start + room)
                ids = body.token_ids[piece]
                rows.append((head.token_ids, ids))
                windows.append(Window(record, len(head.token_ids), body.offsets[piece]))
                start += room - self.overlap
                if start + self.overlap >= len(body.token_ids):
                    break
        return self._arrays(rows), windows

    def _arrays(self, rows):
        tokenizer = self.tokenizer
        shape = (len(rows), self.sequence_length)
        inputs = {
            "token_ids": np.full(shape, tokenizer.pad_token_id, "int32"),
            "segment_ids": np.zeros(shape, "int32"),
            "padding_mask": np.zeros(shape, bool),
            "span_mask": np.zeros(shape, "int32"),
        }
        for row, (head, body) in enumerate(rows):
            ids = [*head, *body, tokenizer.sep_token_id]
            passage = slice(len(head), len(head) + len(body))
            inputs["token_ids"][row, : len(ids)] = ids
            inputs["padding_mask"][row, : len(ids)] = True
            inputs["span_mask"][row, passage] = 1
            inputs["span_mask"][row, 0] = 1
            if not tokenizer.zero_segments:
                inputs["segment_ids"][row, len(head) : len(ids)] = 1
        return inputs

    def _class_of(self, window, span):
        if span in (None, NOT_FOUND):
            return 0
        # Cut off at an edge of the window, the answer is no answer.
        tokens = token_span(window.offsets, *span)
        if tokens is None:
            return 0
        first, last = (window.first + place for place in tokens)
        return first * self.sequence_length + last

    def get_config(self):
        return {
            **super().get_config(),
            "overlap": self.overlap,
            "max_question_length": self.max_question_length,
        }


NOT_FOUND = "not found"  # an answer that is not in its passage


def find_answer(passage, answers):
    """Half-open span of the first answer that stands in the passage.

    Where the text at `answer_start` is another one (6 % of the answers of CMRC 2018),
    the nearest occurrence of the answer counts, as scores are taken by text alone.

    Args:
        passage: string.
        answers: a dict with `text` and perhaps `answer_start`, a list of them, or
            `None`.

    Returns:
        `(start, end)`, `None` without answers, or `NOT_FOUND`.

    Raises:
        ValueError: an answer of another form.
    """
    if isinstance(answers, dict):
        answers = [answers]
    for answer in answers or ():
        _check_answer(answer)
    answers = [each for each in answers or () if each["text"]]
    for answer in answers:
        text, said = answer["text"], answer.get("answer_start", 0)
        if said >= 0 and passage.startswith(text, said):
            return said, said + len(text)
    for answer in answers:
        text, said = answer["text"], answer.get("answer_start", 0)
        places = []
        place = passage.find(text)
        while place >= 0:
            places.append(place)
            place = passage.find(text, place + 1)
        if places:
            start = min(places, key=lambda place: abs(place - said))
            return start, start + len(text)
    return NOT_FOUND if answers else None


def _check_answer(answer):
    given = answer if isinstance(answer, dict) else {}
    start = given.get("answer_start", 0)
    if isinstance(given.get("text"), str) and isinstance(start, numbers.Integral):
        return
    raise ValueError(
        'An answer is a dict {"text": string, "answer_start": integer}, and a question '
        f"has one, a list of them, or None. Received {answer!r}."
    )
