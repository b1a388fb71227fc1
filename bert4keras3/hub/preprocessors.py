"""Our preprocessors as KerasHub preprocessors."""

import keras
import keras_hub

from bert4keras3 import tasks
from bert4keras3.hub.backbone import Backbone
from bert4keras3.hub.text_inputs import encode
from bert4keras3.hub.tokenizer import Tokenizer


@keras.saving.register_keras_serializable(package="bert4keras3.hub")
class TextClassifierPreprocessor(keras_hub.models.TextClassifierPreprocessor):
    """Encodes texts or pairs of texts; labels and weights pass through.

    Pairs have the segment ids that the model was trained with: zeros for RoFormerV2
    and GAU-α.

    Args:
        tokenizer: a `bert4keras3.hub.Tokenizer`.
        sequence_length: length of the arrays, or several of which the smallest that
            fits is taken; `None` for that of the longest text of a batch.
        **kwargs: `name` and what else every Keras layer takes.

    Call arguments:
        x: a string, a batch of strings, or a tuple of two of these.
        y: labels, or `None`.
        sample_weight: weights, or `None`.

    Returns:
        `x`, `(x, y)` or `(x, y, sample_weight)`, where `x` is a dict of `token_ids`,
        `segment_ids` and `padding_mask`, each `(B, T)`.

    Raises:
        ValueError: another `truncate` than `"round_robin"`; too many segments.

    Example:

    >>> tokenizer = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "好"])
    >>> preprocessor = TextClassifierPreprocessor(tokenizer, sequence_length=6)
    >>> x, y = preprocessor(["好", "好好"], y=np.array([1, 0]))
    >>> x["token_ids"].shape
    (2, 6)
    """

    backbone_cls = Backbone
    tokenizer_cls = Tokenizer

    def __init__(self, tokenizer, sequence_length=512, **kwargs):
        super().__init__(tokenizer, sequence_length, **check_truncate(kwargs))
        self.built = True

    @classmethod
    def wrap(cls, preprocessor):
        """A KerasHub preprocessor of a `TextPreprocessor` of ours."""
        return cls(Tokenizer.wrap(preprocessor.tokenizer), preprocessor.sequence_length)

    def unwrap(self):
        """The `TextPreprocessor` of ours."""
        preprocessor_class = tasks.get("text_classifier").preprocessor_class
        return preprocessor_class(self.tokenizer.unwrap(), self.sequence_length)

    def call(self, x, y=None, sample_weight=None):
        x = encode(self.unwrap(), x, inputs_only=True)
        return keras.utils.pack_x_y_sample_weight(x, y, sample_weight)

    def get_config(self):
        return without_truncate(super().get_config())


@keras.saving.register_keras_serializable(package="bert4keras3.hub")
class TextEmbedderPreprocessor(keras_hub.models.TextEmbedderPreprocessor):
    """Encodes texts; labels and weights pass through.

    Args:
        tokenizer, sequence_length, **kwargs: see `TextClassifierPreprocessor`, as are
            the call arguments, the outputs and the errors.

    Example:

    >>> tokenizer = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "好"])
    >>> preprocessor = TextEmbedderPreprocessor(tokenizer, sequence_length=6)
    >>> preprocessor("好")["padding_mask"].shape
    (6,)
    """

    backbone_cls = Backbone
    tokenizer_cls = Tokenizer

    def __init__(self, tokenizer, sequence_length=256, **kwargs):
        super().__init__(tokenizer, sequence_length, **check_truncate(kwargs))
        self.built = True

    @classmethod
    def wrap(cls, preprocessor):
        """A KerasHub preprocessor of a `TextEmbedderPreprocessor` of ours."""
        return cls(Tokenizer.wrap(preprocessor.tokenizer), preprocessor.sequence_length)

    def unwrap(self):
        """The `TextEmbedderPreprocessor` of ours."""
        preprocessor_class = tasks.get("text_embedder").preprocessor_class
        return preprocessor_class(self.tokenizer.unwrap(), self.sequence_length)

    def call(self, x, y=None, sample_weight=None):
        if isinstance(x, tuple) and len(x) > 1:
            raise ValueError(
                "A text embedder gives one vector for a text. Embed the texts of a "
                "pair one by one."
            )
        x = encode(self.unwrap(), x, inputs_only=True)
        return keras.utils.pack_x_y_sample_weight(x, y, sample_weight)

    def get_config(self):
        return without_truncate(super().get_config())


@keras.saving.register_keras_serializable(package="bert4keras3.hub")
class MaskedLMPreprocessor(keras_hub.models.MaskedLMPreprocessor):
    """Encodes texts and masks whole words of them, anew at every call.

    The words, rates and numbers of predictions are those of
    `bert4keras3.tasks.masked_lm_preprocessor`, with a token and its `##` pieces as a
    word.

    Args:
        tokenizer, sequence_length, **kwargs: see `TextClassifierPreprocessor`.
        mask_rate: share of words to predict.
        seed: seed of the masks; `None` for a random one.

    Call arguments:
        x: a string, a batch of strings, or a tuple of two of these.
        y, sample_weight: not used; the task makes its own.

    Returns:
        `(x, y, sample_weight)`: `x` also holds `mask_positions` `(B, P)`; `y` are the
        tokens there, and the weights are 1 for a prediction and 0 for the rest.

    Example:

    >>> tokenizer = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "好"])
    >>> preprocessor = MaskedLMPreprocessor(tokenizer, sequence_length=6, seed=1)
    >>> x, y, sample_weight = preprocessor(["好好"])
    >>> x["mask_positions"].shape == y.shape == sample_weight.shape
    True
    """

    backbone_cls = Backbone
    tokenizer_cls = Tokenizer

    def __init__(
        self, tokenizer, sequence_length=512, mask_rate=0.15, seed=None, **kwargs
    ):
        super().__init__(
            tokenizer,
            sequence_length,
            mask_selection_rate=mask_rate,
            **check_truncate(kwargs),
        )
        self.built = True
        self.mask_rate = mask_rate
        self.seed = seed
        self._masked = None

    @classmethod
    def wrap(cls, preprocessor):
        """A KerasHub preprocessor of a `MaskedLMPreprocessor` of ours.

        Raises:
            ValueError: it finds words by a function, which a preset cannot hold.
        """
        preprocessor.get_config()
        return cls(
            Tokenizer.wrap(preprocessor.tokenizer),
            preprocessor.sequence_length,
            preprocessor.mask_rate,
            preprocessor.seed,
        )

    def unwrap(self):
        """The `MaskedLMPreprocessor` of ours, the same at every call."""
        tokenizer = self.tokenizer.unwrap()
        settings = (self.sequence_length, self.mask_rate, self.seed)
        if self._masked is None or self._masked[:2] != (tokenizer, settings):
            preprocessor_class = tasks.get("masked_lm").preprocessor_class
            length, mask_rate, seed = settings
            made = preprocessor_class(tokenizer, length, mask_rate, seed=seed)
            self._masked = (tokenizer, settings, made)
        return self._masked[2]

    def call(self, x, y=None, sample_weight=None):
        return encode(self.unwrap(), x)

    def get_config(self):
        config = keras_hub.models.Preprocessor.get_config(self)
        return {
            **config,
            "sequence_length": self.sequence_length,
            "mask_rate": self.mask_rate,
            "seed": self.seed,
        }


def check_truncate(arguments):
    """Arguments without `truncate`, of which our tokenizer has one kind.

    Raises:
        ValueError: another kind than KerasHub's default.
    """
    arguments = dict(arguments)
    truncate = arguments.pop("truncate", "round_robin")
    if truncate != "round_robin":
        raise ValueError(
            f"Received truncate={truncate!r}. Our tokenizer takes tokens from the "
            'longer text, which KerasHub calls "round_robin"; leave `truncate` out.'
        )
    return arguments


def without_truncate(config):
    """A config without `truncate`, see `check_truncate`."""
    return {key: value for key, value in config.items() if key != "truncate"}
