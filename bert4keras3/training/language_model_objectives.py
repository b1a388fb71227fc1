"""Predicting the next token: of a whole row, or of its second part."""

from __future__ import annotations

from typing import Any

from bert4keras3.text.tokenizer import Tokenizer
from bert4keras3.training.objective import Objective

__all__ = ["CausalLM", "PrefixLM"]


class CausalLM(Objective):
    """Predict each token from those before it, `[SEP]` at the end included.

    For a model with `attention="causal"`, or `"causal_documents"` on rows that hold
    several documents, where the first token of a document is not predicted from the
    document before.

    Args:
        tokenizer: `Tokenizer`.
        segment_id: int, of all tokens. 1 makes a model with `attention="prefix"` read
            the row from left to right, for mixtures of objectives.
    """

    def __init__(self, tokenizer: Tokenizer, segment_id: int = 0):
        super().__init__(tokenizer)
        self.segment_id = segment_id

    def __call__(self, batch: dict[str, Any], seed: Any) -> tuple[Any, Any, Any]:
        import tensorflow as tf

        token_ids, numbers = batch["token_ids"], self.document_numbers(batch)
        same = (numbers[:, 1:] == numbers[:, :-1]) & (numbers[:, 1:] > 0)
        inputs = {
            "token_ids": token_ids,
            "segment_ids": tf.fill(tf.shape(token_ids), self.segment_id),
            "padding_mask": numbers,
            "mask_positions": every_place(token_ids),
        }
        weights = tf.pad(tf.cast(same, "float32"), [[0, 0], [0, 1]])
        return inputs, next_tokens(token_ids, weights), weights


class PrefixLM(Objective):
    """UniLM: read the first part of a row both ways, predict the second part.

    A row is parted before one of its sentences, drawn at random, or before a word if
    it has one sentence. `[SEP]` is put between, so a full row loses its last token, and
    segment 1 begins behind it, as bert4keras's UniLM does. Every token of the second
    part is predicted, its `[SEP]` too. For a model with `attention="prefix"`.

    Source: https://arxiv.org/abs/1905.03197, https://kexue.fm/archives/6933.
    """

    def __call__(self, batch: dict[str, Any], seed: Any) -> tuple[Any, Any, Any]:
        import tensorflow as tf

        token_ids = batch["token_ids"]
        places = tf.range(tf.shape(token_ids)[1])
        cut = self.cuts(batch, seed)[:, None]
        # From the cut on every token moves one place to the right.
        moved = tf.pad(token_ids, [[0, 0], [1, 0]])[:, :-1]
        together = tf.where(places < cut, token_ids, moved)
        together = tf.where(places == cut, self.tokenizer.sep_token_id, together)
        second = (places > cut) & tf.not_equal(together, 0)
        weights = tf.cast(second, "float32")
        weights = tf.pad(weights[:, 1:], [[0, 0], [0, 1]])
        inputs = {
            "token_ids": together,
            "segment_ids": tf.cast(second, "int32"),
            "padding_mask": tf.cast(tf.not_equal(together, 0), "int32"),
            "mask_positions": every_place(token_ids),
        }
        return inputs, next_tokens(together, weights), weights

    def cuts(self, batch: dict[str, Any], seed: Any) -> Any:
        """Return where the second part of each row begins, int32 `(B,)`."""
        import tensorflow as tf

        words, sentences = batch["word_ids"], batch["sentence_ids"]

        def begins(ids: Any) -> Any:
            before = tf.pad(ids, [[0, 0], [1, 0]], constant_values=-1)[:, :-1]
            return (ids > before) & (ids > 0)

        of_sentence, of_word = begins(sentences), begins(words)
        has_two = tf.reduce_any(of_sentence, axis=1, keepdims=True)
        candidates = tf.where(has_two, of_sentence, of_word)
        priority = tf.random.stateless_uniform(tf.shape(words), seed)
        best = tf.argmax(tf.where(candidates, priority, -1.0), 1, output_type="int32")
        # A row of one word: all of it is the second part.
        return tf.where(tf.reduce_any(candidates, axis=1), best, 1)


def every_place(token_ids: Any) -> Any:
    """Return `0 ... T - 1` in each row."""
    import tensorflow as tf

    return tf.broadcast_to(tf.range(tf.shape(token_ids)[1]), tf.shape(token_ids))


def next_tokens(token_ids: Any, weights: Any) -> Any:
    """Return the token behind each, and 0 where nothing is predicted."""
    import tensorflow as tf

    behind = tf.pad(token_ids[:, 1:], [[0, 0], [0, 1]])
    return tf.where(weights > 0, behind, 0)
