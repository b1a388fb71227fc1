"""From raw text to the inputs, labels and weights of a masked language model."""

import keras
import numpy as np

from bert4keras3.tasks.text_preprocessor import TextPreprocessor
from bert4keras3.training.whole_word_masking import (
    WholeWordMasker,
    number_of_predictions,
)


@keras.saving.register_keras_serializable(package="bert4keras3")
class MaskedLMPreprocessor(TextPreprocessor):
    """Encodes texts and masks whole words of them, anew at every call.

    A word is what `word_segmenter` gives, or, without one, a token with the `##` pieces
    that follow it. Rates are the original's: of 15 % chosen words 80 % become
    `[MASK]`, 10 % stay, 10 % become random tokens (https://kexue.fm/archives/9052).

    Args:
        tokenizer: a `Tokenizer`.
        sequence_length: length of the arrays, or several lengths (buckets) of which the
            smallest that fits is taken; longer texts are cut. `None` for the longest
            text of the batch. A compiled model is compiled once per length.
        mask_rate: share of words to predict.
        word_segmenter: callable from a string to its words, or `None`.
        seed: seed of the masks; `None` for a random one.

    Call arguments:
        texts: list of strings.
        pairs: second texts, or `None`.
        labels: not used by this task.
        inputs_only: give the plain inputs, unmasked, for prediction.

    Returns:
        `(inputs, mask_ids, mask_weights)`, where `inputs` also holds `mask_positions`;
        or `inputs`.
    """

    def __init__(
        self,
        tokenizer,
        sequence_length=None,
        mask_rate=0.15,
        word_segmenter=None,
        seed=None,
    ):
        super().__init__(tokenizer, sequence_length)
        self.mask_rate = mask_rate
        self.word_segmenter = word_segmenter
        self.seed = seed
        # From NumPy's global state, which `keras.utils.set_random_seed` sets.
        drawn = np.random.randint(2**31) if seed is None else seed
        self.random = np.random.default_rng(drawn)
        special = {
            tokenizer.pad_token_id,
            tokenizer.unk_token_id,
            tokenizer.cls_token_id,
            tokenizer.sep_token_id,
            tokenizer.mask_token_id,
        }
        ordinary = [i for i in range(tokenizer.vocabulary_size) if i not in special]
        self.masker = WholeWordMasker(tokenizer.mask_token_id, ordinary, mask_rate)

    def __call__(self, texts, pairs=None, labels=None, inputs_only=False):
        inputs = self.tokenizer(texts, pairs, length=self.sequence_length)
        if inputs_only:
            return inputs
        length = inputs["token_ids"].shape[1]
        masked = self.masker(
            inputs["token_ids"],
            self.word_ids(texts, pairs, inputs["token_ids"]),
            number_of_predictions(length, self.mask_rate),
            self.random,
        )
        inputs["token_ids"] = masked.token_ids
        inputs["mask_positions"] = masked.mask_positions
        return inputs, masked.mask_ids, masked.mask_weights

    def word_ids(self, texts, pairs, token_ids):
        """Number of the word that each token belongs to; -1 where none may be masked.

        Returns:
            int32 `(B, T)`.
        """
        word_ids = np.full(token_ids.shape, -1, "int32")
        pairs = pairs if pairs is not None else [None] * len(texts)
        for row, (text, pair) in enumerate(zip(texts, pairs, strict=True)):
            encoding = self.tokenizer.encode(
                text, pair, max_length=token_ids.shape[1], truncate_from="right"
            )
            starts = self._word_starts(text)
            pair_starts = self._word_starts(pair) if pair is not None else None
            word = -1
            in_pair = False
            for place, (token, span) in enumerate(
                zip(encoding.tokens, encoding.offsets, strict=True)
            ):
                if span is None:
                    in_pair = in_pair or place > 0
                    continue
                cuts = pair_starts if in_pair and pair is not None else starts
                begins = not token.startswith("##") if cuts is None else span[0] in cuts
                if begins or word < 0 or word_ids[row, place - 1] < 0:
                    word += 1
                word_ids[row, place] = word
        return word_ids

    def _word_starts(self, text):
        if self.word_segmenter is None:
            return None
        starts, place = set(), 0
        for word in self.word_segmenter(text):
            starts.add(place)
            place += len(word)
        return starts

    def encode_blanks(self, texts):
        """Inputs of texts in which `[MASK]` stands for a token to be guessed."""
        return self.tokenizer(
            texts,
            length=self.sequence_length,
            allow_special=(self.tokenizer.mask_token,),
        )

    def get_config(self):
        if self.word_segmenter is not None:
            raise ValueError(
                "A preprocessor with a `word_segmenter` function cannot be saved. Save "
                "the task without it (preprocessor=None), or set word_segmenter=None."
            )
        config = super().get_config()
        return {**config, "mask_rate": self.mask_rate, "seed": self.seed}
