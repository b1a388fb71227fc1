"""Our tokenizer as a KerasHub tokenizer."""

import keras
import keras_hub
import numpy as np

from bert4keras3 import text
from bert4keras3.hub.backbone import Backbone
from bert4keras3.text.tokenizer_config import tokenizer_config


@keras.saving.register_keras_serializable(package="bert4keras3.hub")
class Tokenizer(keras_hub.tokenizers.Tokenizer):
    """`bert4keras3.text.Tokenizer` as a `keras_hub.tokenizers.Tokenizer`.

    Token ids are those of our tokenizer, word-level models included; KerasHub's own
    WordPiece is not used. In a `tf.data` pipeline the text is encoded by Python on the
    host, so it cannot be part of an exported graph.

    Args:
        vocabulary: as `bert4keras3.text.Tokenizer` takes it, or `None` for one that
            comes later, from the assets of a preset.
        lowercase, pre_tokenize, max_word_length, unk_token, pad_token: see
            `bert4keras3.text.Tokenizer`.
        cls_token, sep_token, mask_token, token_translate, zero_segments: likewise.
        **kwargs: `name` and what else every Keras layer takes.

    Call arguments:
        inputs: a string, a list of strings or a string tensor.

    Returns:
        Ids without special tokens: a tensor for one text, a list of lists for several;
        while a `tf.data` pipeline is traced a ragged tensor.

    Example:

    >>> special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    >>> tokenizer = Tokenizer([*special, "今", "天", "好"])
    >>> tokenizer.detokenize(tokenizer("今天好"))
    '今天好'
    >>> tokenizer.token_to_id("天")
    6
    """

    backbone_cls = Backbone

    def __init__(
        self,
        vocabulary=None,
        *,
        lowercase=True,
        pre_tokenize=None,
        max_word_length=200,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        token_translate=None,
        zero_segments=False,
        **kwargs,
    ):
        kwargs.setdefault("dtype", "int32")
        super().__init__(**kwargs)
        # Nothing is built, and `quantize` refuses a layer that says otherwise.
        self.built = True
        self.file_assets = ["vocab.txt"]
        self.settings = {
            "lowercase": lowercase,
            "pre_tokenize": pre_tokenize,
            "max_word_length": max_word_length,
            "unk_token": unk_token,
            "pad_token": pad_token,
            "cls_token": cls_token,
            "sep_token": sep_token,
            "mask_token": mask_token,
            "token_translate": token_translate,
            "zero_segments": zero_segments,
        }
        self._tokenizer = None
        if vocabulary is not None:
            self.set_vocabulary(vocabulary)

    @classmethod
    def wrap(cls, tokenizer):
        """A KerasHub tokenizer of one of `bert4keras3.text`.

        Raises:
            ValueError: it cuts words by a function, which a preset cannot hold.
        """
        return cls(**tokenizer_config(tokenizer))

    def unwrap(self):
        """The `bert4keras3.text.Tokenizer`.

        Raises:
            ValueError: no vocabulary yet.
        """
        if self._tokenizer is None:
            raise ValueError(
                "This tokenizer has no vocabulary. Pass `vocabulary`, call "
                "`set_vocabulary`, or load it by `from_preset`."
            )
        return self._tokenizer

    def set_vocabulary(self, vocabulary):
        """Take a vocabulary: a path, a list of tokens or a `{token: id}` mapping."""
        self._tokenizer = text.Tokenizer(vocabulary, **self.settings)

    def save_assets(self, dir_path):
        self.unwrap().save(dir_path)

    def load_assets(self, dir_path):
        self._tokenizer = text.Tokenizer.from_folder(dir_path, **self.settings)

    def tokenize(self, inputs):
        import tensorflow as tf

        inputs = tf.convert_to_tensor(inputs)
        if inputs.shape.rank == 0:
            return self.tokenize(inputs[None])[0]
        ids, lengths = tf.numpy_function(self._encode, [inputs], ["int32", "int64"])
        ids.set_shape([None])
        lengths.set_shape(inputs.shape)
        return tf.RaggedTensor.from_row_lengths(ids, lengths)

    def _encode(self, texts):
        encode = self.unwrap().encode
        rows = [encode(each, add_special_tokens=False).token_ids for each in texts]
        ids = [token_id for row in rows for token_id in row]
        return np.array(ids, "int32"), np.array([len(row) for row in rows], "int64")

    def detokenize(self, inputs):
        """A string from a row of ids, or a list of strings from several rows."""
        rows = inputs.to_list() if hasattr(inputs, "to_list") else inputs
        rows = [np.asarray(row).tolist() for row in rows]
        decode = self.unwrap().decode
        if any(isinstance(row, list) for row in rows):
            return [decode(row) for row in rows]
        return decode(rows)

    def get_vocabulary(self):
        return list(self.unwrap().vocabulary)

    def vocabulary_size(self):
        return self.unwrap().vocabulary_size

    def id_to_token(self, id):
        return self.unwrap().id_to_token(id)

    def token_to_id(self, token):
        return self.unwrap().token_to_id(token)

    @property
    def special_tokens(self):
        names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
        tokens = [self.settings[name] for name in names]
        return [token for token in tokens if token is not None]

    @property
    def special_token_ids(self):
        return [self.token_to_id(token) for token in self.special_tokens]

    @property
    def start_token_id(self):
        return self.unwrap().cls_token_id

    @property
    def end_token_id(self):
        return self.unwrap().sep_token_id

    @property
    def pad_token_id(self):
        return self.unwrap().pad_token_id

    @property
    def mask_token_id(self):
        return self.unwrap().mask_token_id

    def get_config(self):
        return {**super().get_config(), **self.settings}
