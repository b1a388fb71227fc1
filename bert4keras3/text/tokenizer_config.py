"""A tokenizer as plain data."""

from typing import Any

from bert4keras3.text.tokenizer import Tokenizer


def tokenizer_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """Arguments that build an equal `Tokenizer`, as plain data.

    Raises:
        ValueError: the tokenizer cuts words by a function, which is not data.
    """
    if not isinstance(tokenizer.pre_tokenize, str | None):
        raise ValueError(
            "A tokenizer whose `pre_tokenize` is a function cannot be saved. Use "
            "pre_tokenize='jieba', or save the model without its preprocessor."
        )
    return {
        "vocabulary": list(tokenizer.vocabulary),
        "lowercase": tokenizer.lowercase,
        "pre_tokenize": tokenizer.pre_tokenize,
        "max_word_length": tokenizer.max_word_length,
        "unk_token": tokenizer.unk_token,
        "pad_token": tokenizer.pad_token,
        "cls_token": tokenizer.cls_token,
        "sep_token": tokenizer.sep_token,
        "mask_token": tokenizer.mask_token,
        "token_translate": dict(tokenizer.token_translate),
        "zero_segments": tokenizer.zero_segments,
    }
