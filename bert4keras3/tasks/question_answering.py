"""Extractive question answering: the span of a passage that answers a question."""

import keras
import numpy as np
from keras import ops

from bert4keras3.layers.global_pointer import GlobalPointer
from bert4keras3.naming import lookup
from bert4keras3.ops import MASKED_LOGIT
from bert4keras3.tasks.question_answering_preprocessor import (
    QuestionAnsweringPreprocessor,
)
from bert4keras3.tasks.task import Task, softmax
from bert4keras3.tasks.text_batches import ArrayBatches, check_texts
from bert4keras3.text.inputs import as_batch


@keras.saving.register_keras_serializable(package="bert4keras3")
class StartEndScorer(keras.layers.Layer):
    """`l(s, e) = a x_s + b x_e`: the softmax over spans is that over both ends alone.

    Call arguments:
        x: `(B, T, D)`.

    Returns:
        float32 `(B, T, T)`, start by end.
    """

    def build(self, input_shape):
        self.dense = keras.layers.Dense(
            2,
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02),
            dtype=self.dtype_policy,
            name="ends",
        )
        self.dense.build(input_shape)

    def call(self, x):
        ends = ops.cast(self.dense(x), "float32")
        return ends[:, :, None, 0] + ends[:, None, :, 1]

    def get_config(self):
        # Keras's automatic config refuses a dtype policy that is given as an object.
        return super().get_config()


@keras.saving.register_keras_serializable(package="bert4keras3")
class PointerScorer(keras.layers.Layer):
    """A global pointer with one label: `l(s, e) = rope(q_s) rope(k_e) / sqrt(H)`.

    Args:
        head_dim: size `H` of the vectors.

    Call arguments:
        x: `(B, T, D)`.

    Returns:
        float32 `(B, T, T)`, start by end; -1e9 where the end comes first.
    """

    def __init__(self, head_dim=64, **kwargs):
        super().__init__(**kwargs)
        self.head_dim = head_dim
        self.pointer = GlobalPointer(
            1, head_dim, use_bias=False, dtype=self.dtype_policy, name="pointer"
        )

    def build(self, input_shape):
        self.pointer.build(input_shape)

    def call(self, x):
        return self.pointer(x)[:, 0]

    def get_config(self):
        return {**super().get_config(), "head_dim": self.head_dim}


SCORERS = {"pointer": PointerScorer, "start_end": StartEndScorer}


@keras.saving.register_keras_serializable(package="bert4keras3")
class QuestionAnswering(Task):
    """The span of a passage that answers a question.

    One score per span of a window, and cross-entropy over all spans: `[CLS]` alone
    stands for "not in this window". Training reads every window of a passage; an answer
    is the best span of all windows.

    Args:
        backbone: a `Backbone`.
        preprocessor: a `QuestionAnsweringPreprocessor`, or `None`.
        scorer: `"start_end"` scores both ends apart, as BERT does; `"pointer"` scores
            spans by a global pointer (https://kexue.fm/archives/8373).

    Call arguments:
        inputs: dict of the backbone's inputs, and `span_mask` `(B, T)`, 1 where an
            answer may start and end.

    Returns:
        float32 logits `(B, T * T)`, span `(s, e)` at `s * T + e`; -1e9 for spans with
        an end outside `span_mask`.

    Raises:
        ValueError: unknown scorer.

    Example:

    >>> from bert4keras3.models.gau_alpha import GAUAlphaBackbone
    >>> model = QuestionAnswering(GAUAlphaBackbone(50, 1, 16, 32, key_dim=8))
    >>> tuple(model({"token_ids": np.array([[2, 9, 9, 3]])}).shape)
    (1, 16)
    """

    preprocessor_class = QuestionAnsweringPreprocessor

    def __init__(self, backbone, preprocessor=None, scorer="start_end", **kwargs):
        super().__init__(backbone, preprocessor, **kwargs)
        self.scorer_name = scorer
        self.scorer = lookup(scorer, SCORERS, "scorer")(
            dtype=backbone.token_embedding.dtype_policy, name="scorer"
        )
        self.scorer.build((None, None, backbone.hidden_dim))
        self.built = True

    def call(self, inputs, training=None):
        inputs = dict(inputs) if isinstance(inputs, dict) else {"token_ids": inputs}
        span_mask = inputs.pop("span_mask", None)
        inputs = self.backbone.complete_inputs(inputs)
        if span_mask is None:
            span_mask = inputs["padding_mask"]
        logits = self.scorer(self.hidden_states(inputs, training=training))
        mask = ops.cast(span_mask, "bool")
        allowed = ops.logical_and(mask[:, :, None], mask[:, None, :])
        logits = ops.where(allowed, logits, float(MASKED_LOGIT))
        length = ops.shape(logits)[-1]
        return ops.reshape(logits, (-1, length * length))

    def default_metrics(self):
        return ["sparse_categorical_accuracy"]

    def _text_batches(self, x, y, batch_size, shuffle=False, inputs_only=False):
        """Windows as rows, so that each batch has as many, whatever the passages."""
        check_texts(x)
        if not isinstance(x, tuple) or len(x) != 2:
            x = (x, None)  # the preprocessor says what is missing
        questions, passages = ([each] if isinstance(each, str) else each for each in x)
        prepared = self.required_preprocessor()(questions, passages, y, inputs_only)
        return ArrayBatches(prepared, batch_size or 32, shuffle)

    def answer(self, questions, passages, max_answer_length=64, batch_size=16):
        """The best answer that stands in each passage.

        Args:
            questions: a string or a list of strings.
            passages: as many passages.
            max_answer_length: the greatest number of tokens of an answer.
            batch_size: windows per batch.

        Returns:
            For each question a dict: `text`, `start` and `end` (half-open, in
            characters of the passage), and `score`, the probability of the span in its
            window. An empty text, with a start and an end of 0, if the passage is
            empty.

        Raises:
            ValueError: the task has no preprocessor.
        """
        single = isinstance(questions, str)
        questions = as_batch(questions, "questions")
        passages = as_batch(passages, "passages")
        inputs, windows = self.required_preprocessor().windows(questions, passages)
        found = [
            {"text": "", "start": 0, "end": 0, "score": 0.0, "logit": -np.inf}
            for _ in questions
        ]
        for at in range(0, len(windows), batch_size):
            rows = {name: array[at : at + batch_size] for name, array in inputs.items()}
            logits = np.asarray(ops.convert_to_numpy(self.predict_on_batch(rows)))
            for window, row in zip(windows[at : at + batch_size], logits, strict=True):
                best = best_span(row, window, max_answer_length)
                if best is not None and best["logit"] > found[window.record]["logit"]:
                    found[window.record] = best
        for each, passage in zip(found, passages, strict=True):
            each["text"] = passage[each["start"] : each["end"]]
            del each["logit"]
        return found[0] if single else found

    def get_config(self):
        return {**super().get_config(), "scorer": self.scorer_name}


def best_span(logits, window, max_answer_length):
    """The best span of tokens of the passage in one window.

    Args:
        logits: `(T * T,)` of one window.
        window: a `Window`.
        max_answer_length: the greatest number of tokens.

    Returns:
        Dict of `start`, `end`, `score` and `logit`, or `None` for an empty window.
    """
    if not window.offsets:
        return None
    length = int(round(len(logits) ** 0.5))
    passage = slice(window.first, window.first + len(window.offsets))
    scores = logits.reshape(length, length)[passage, passage]
    steps = np.arange(len(scores))
    ahead = steps[None] - steps[:, None]
    scores = np.where((ahead >= 0) & (ahead < max_answer_length), scores, -np.inf)
    start, end = np.unravel_index(scores.argmax(), scores.shape)
    place = (window.first + start) * length + window.first + end
    return {
        "start": window.offsets[start][0],
        "end": window.offsets[end][1],
        "score": float(softmax(logits)[place]),
        "logit": float(scores[start, end]),
    }
