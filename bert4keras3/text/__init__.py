"""Text preparation: tokenizers with offsets, truncation, padding and alignment."""

from bert4keras3.text.alignment import (
    longest_common_subsequence,
    longest_common_substring,
)
from bert4keras3.text.decoding import join_tokens
from bert4keras3.text.encoding import Encoding
from bert4keras3.text.normalization import normalize_text
from bert4keras3.text.padding import pad_sequences
from bert4keras3.text.segmentation import split_text
from bert4keras3.text.tokenizer import Tokenizer
from bert4keras3.text.truncation import truncate_sequences
from bert4keras3.text.vocabulary import (
    read_vocabulary,
    simplify_vocabulary,
    write_vocabulary,
)

__all__ = [
    "Encoding",
    "Tokenizer",
    "join_tokens",
    "longest_common_subsequence",
    "longest_common_substring",
    "normalize_text",
    "pad_sequences",
    "read_vocabulary",
    "simplify_vocabulary",
    "split_text",
    "truncate_sequences",
    "write_vocabulary",
]
