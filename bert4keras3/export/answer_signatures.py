"""Signatures of question answering."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from bert4keras3.export.signatures import Signatures, model_inputs, pieces_of
from bert4keras3.text.graph_rows import counts_in_rows, places_in_rows

__all__ = ["AnswerSignatures"]

QUESTION = tf.TensorSpec([None], "string", name="question")
PASSAGE = tf.TensorSpec([None], "string", name="passage")
MAX_ANSWER_LENGTH = 64


class AnswerSignatures(Signatures):
    """`serving_default` takes `question` and `passage` and gives the best answer.

    A long passage is read in overlapping windows, as by `QuestionAnswering.answer`.
    Outputs, `(B,)`: `answer`, string; `start` and `end`, int32, half-open in characters
    of the passage; `score`, the probability of the span in its window.
    """

    def columns(self) -> list[tf.TensorSpec]:
        return [QUESTION, PASSAGE]

    more_inputs = ("span_mask",)

    def answer(self, question: Any, passage: Any = None) -> dict[str, Any]:
        count = tf.size(question)
        windows = self._windows(question, passage)
        logits = self.outputs(windows["inputs"])["logits"]
        length = tf.shape(windows["inputs"]["token_ids"])[1]
        square = tf.reshape(logits, [-1, length, length])
        body = windows["body"]
        at = tf.range(length)
        ahead = at[None] - at[:, None]
        allowed = body[:, :, None] & body[:, None, :]
        allowed &= (ahead >= 0) & (ahead < MAX_ANSWER_LENGTH)
        scores = tf.where(allowed, square, float("-inf"))
        scores = tf.reshape(scores, [-1, length * length])
        span = tf.argmax(scores, axis=1, output_type="int32")
        best = tf.reduce_max(scores, axis=1)
        probability = tf.gather(tf.nn.softmax(logits), span, batch_dims=1)
        # The first of the best windows of each passage.
        record, number = windows["record"], tf.range(tf.size(best))
        most = tf.math.segment_max(best, record)
        number = tf.where(best == tf.gather(most, record), number, tf.size(best))
        chosen = tf.math.segment_min(number, record)
        # A passage without a token has no span.
        found = most > float("-inf")
        chosen = tf.where(found, chosen, 0)
        span = tf.gather(span, chosen)
        first = windows["first"]
        tokens = [
            tf.where(found, tf.gather(first, chosen) + place, 0)
            for place in (span // length, span % length)
        ]
        starts = tf.pad(windows["starts"], [[0, 1]])
        ends = tf.pad(windows["ends"], [[0, 1]])
        start = tf.where(found, tf.gather(starts, tokens[0]), 0)
        end = tf.where(found, tf.gather(ends, tokens[1]), 0)
        return {
            "answer": pieces_of(passage, tf.range(count), start, end),
            "start": start,
            "end": end,
            "score": tf.where(found, tf.gather(probability, chosen), 0.0),
        }

    def _windows(self, question: Any, passage: Any) -> dict[str, Any]:
        """The rows of all windows.

        Returns `inputs` of the model; `record`, the passage of each window; `body`,
        bool `(W, T)`, tokens of the passage; `first`, what to add to the place of a
        token in its row to find it among all tokens of passages, whose `starts` and
        `ends` are given.
        """
        assert self.tokenizer is not None
        preprocessor, tokenizer = self.model.preprocessor, self.tokenizer
        size, overlap = preprocessor.sequence_length, preprocessor.overlap
        count = tf.size(question)
        head, body = tokenizer.tokens(question), tokenizer.tokens(passage)

        head_all = counts_in_rows(head.rows, count)
        body_all = counts_in_rows(body.rows, count)
        head_count = tf.minimum(head_all, preprocessor.max_question_length)
        room = size - head_count - 3
        fits = (room > overlap) | (body_all <= room)
        check = tf.debugging.assert_equal(
            tf.reduce_all(fits),
            True,
            "A question is so long that its row has no room for more of the passage "
            "than the overlap of two windows.",
        )
        with tf.control_dependencies([check] if check is not None else []):
            stride = tf.maximum(room - overlap, 1)
        more = tf.maximum(body_all - overlap - 1, 0) // stride
        windows = 1 + tf.where(body_all > room, more, 0)
        record = tf.repeat(tf.range(count), windows)
        number = places_in_rows(record, windows)
        begin = number * tf.gather(stride, record)
        length = tf.minimum(
            tf.gather(room, record), tf.gather(body_all, record) - begin
        )
        head_end = tf.gather(head_count, record) + 2
        row_length = head_end + length + 1
        width = tf.reduce_max(tf.concat([[2], row_length], 0))
        at = tf.range(width)[None]
        head_first = tf.cumsum(head_all, exclusive=True)
        body_first = tf.cumsum(body_all, exclusive=True)
        in_head = (at > 0) & (at < head_end[:, None] - 1)
        in_body = (at >= head_end[:, None]) & (at < (head_end + length)[:, None])
        first = tf.gather(body_first, record) + begin - head_end

        def lookup(ids: Any, inside: Any, offset: Any) -> Any:
            place = tf.where(inside, at + offset[:, None], 0)
            return tf.gather(tf.pad(ids, [[0, 1]]), place)

        token_ids = tf.where(
            in_head,
            lookup(head.ids, in_head, tf.gather(head_first, record) - 1),
            tf.where(in_body, lookup(body.ids, in_body, first), tokenizer.pad_token_id),
        )
        token_ids = tf.where(at == 0, tokenizer.cls_token_id, token_ids)
        ends = (at == head_end[:, None] - 1) | (at == row_length[:, None] - 1)
        token_ids = tf.where(ends, tokenizer.sep_token_id, token_ids)
        padding_mask = at < row_length[:, None]
        segments = padding_mask & (at >= head_end[:, None])
        if tokenizer.zero_segments:
            segments = tf.zeros_like(segments)
        encoded = {
            "token_ids": token_ids,
            "segment_ids": tf.cast(segments, "int32"),
            "padding_mask": padding_mask,
        }
        span_mask = tf.cast(in_body | (at == 0), "int32")
        return {
            "inputs": {**model_inputs(encoded), "span_mask": span_mask},
            "record": record,
            "body": in_body,
            "first": first,
            "starts": body.starts,
            "ends": body.ends,
        }
