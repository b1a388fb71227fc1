"""From texts with several answers each to the inputs of multiple choice."""

import numbers

import keras
import numpy as np

from bert4keras3.tasks.text_preprocessor import TextPreprocessor


@keras.saving.register_keras_serializable(package="bert4keras3")
class MultipleChoicePreprocessor(TextPreprocessor):
    """Encodes every choice together with its text: `[CLS] text [SEP] choice [SEP]`.

    A choice may have several parts, such as a question and an answer, or an idiom and
    the text after it: `[CLS] text [SEP] part [SEP] part [SEP]`. A `[SEP]` written in a
    text then counts as one.

    Args:
        tokenizer, sequence_length: see `TextPreprocessor`. What is too long loses the
            end of the text, as long as that is longer than the choice.
        num_choices: how many choices a row of the arrays has; texts with fewer are
            filled up with padding. `None` for the most in a batch.
        truncate_from: `"right"` or `"left"`, where long texts are cut.

    Call arguments:
        texts: list of strings.
        pairs: for each text the list of its choices, strings or tuples of strings.
        labels: for each text the number of the right choice, or `None`.
        inputs_only: give the inputs without labels.

    Returns:
        `inputs`, a dict of arrays `(B, C, T)`, or `(inputs, labels)`.

    Raises:
        ValueError: no choices, a single one, or more than `num_choices`.
    """

    def __init__(
        self, tokenizer, sequence_length=None, num_choices=None, truncate_from="right"
    ):
        super().__init__(tokenizer, sequence_length)
        self.num_choices = num_choices
        self.truncate_from = truncate_from

    def __call__(self, texts, pairs=None, labels=None, inputs_only=False):
        if pairs is None:
            raise ValueError(
                "Multiple choice takes texts and the choices of each: pass "
                "(texts, choices), where choices[i] is a list of strings."
            )
        if len(pairs) != len(texts):
            raise ValueError(
                f"There are {len(texts)} texts but {len(pairs)} lists of choices. Give "
                "a list for each text."
            )
        for row, choices in enumerate(pairs):
            if not isinstance(choices, list | tuple) or len(choices) < 2:
                raise ValueError(
                    "A text needs a list of two choices or more. Received "
                    f"{choices!r} at row {row}."
                )
        most = max(len(choices) for choices in pairs)
        width = self.num_choices or most
        if most > width:
            raise ValueError(
                f"A text has {most} choices, but num_choices={width}. Build the "
                "preprocessor with more."
            )
        separator = self.tokenizer.sep_token
        flat = [choice for choices in pairs for choice in choices]
        in_parts = any(isinstance(choice, tuple) for choice in flat)
        encoded = self.tokenizer(
            [text for text, c in zip(texts, pairs, strict=True) for _ in c],
            [c if isinstance(c, str) else separator.join(c) for c in flat],
            length=self.sequence_length,
            truncate_from=self.truncate_from,
            allow_special=(separator,) if in_parts else (),
        )
        place = np.array(
            [row * width + at for row, c in enumerate(pairs) for at in range(len(c))]
        )
        inputs = {}
        for name, array in encoded.items():
            fill = self.tokenizer.pad_token_id if name == "token_ids" else 0
            shape = (len(texts) * width, array.shape[1])
            spread = np.full(shape, fill, array.dtype)
            spread[place] = array
            inputs[name] = spread.reshape(len(texts), width, -1)
        if inputs_only or labels is None:
            return inputs
        return inputs, self._checked(labels, pairs)

    def _checked(self, labels, choices):
        for label, each in zip(labels, choices, strict=True):
            is_number = isinstance(label, numbers.Integral)
            if not is_number or not 0 <= label < len(each):
                raise ValueError(
                    f"The right choice is {label!r}, but there are {len(each)} "
                    f"choices, with the numbers 0 to {len(each) - 1}: {each!r}."
                )
        return np.asarray(labels, "int32")

    def get_config(self):
        return {
            **super().get_config(),
            "num_choices": self.num_choices,
            "truncate_from": self.truncate_from,
        }
