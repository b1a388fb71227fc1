"""The tokenizer of the released models: text to ids, and back."""

import functools
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from bert4keras3.text import pre_tokenization
from bert4keras3.text.decoding import join_tokens
from bert4keras3.text.encoding import Encoding
from bert4keras3.text.inputs import as_batch, as_buckets, as_ids, as_length, as_text
from bert4keras3.text.packing import Packing
from bert4keras3.text.padding import pad_rows
from bert4keras3.text.pre_tokenization import PreTokenize
from bert4keras3.text.splitting import Splitter
from bert4keras3.text.vocabulary import (
    TokenIds,
    check_special_tokens,
    index_vocabulary,
    lines_of_vocabulary,
    simplify_vocabulary,
    token_of_line,
    write_vocabulary,
)


class Tokenizer:
    """Turns text into the token ids of a BERT-style vocabulary, and back.

    Ideographs and punctuation marks are tokens; other words are cut by greedy
    wordpiece. With `pre_tokenize` whole words of the vocabulary come first (the
    word-level RoFormer). Tokens, ids, truncation and decoding equal those of
    bert4keras 0.11.5 with `do_lower_case=lowercase`, on every Python version alike.

    It differs from bert4keras where that is wrong:

    * offsets refer to the text as given, also after `"İ"`, whose lower case is two
      characters long (bert4keras counts in the lower-cased text), and exist where
      `rematch` raises, as with `token_translate`;
    * ids are line numbers also when two lines hold the same token, which is an error
      (bert4keras shifts all later ids);
    * a `max_length` with no room for the special tokens is an error, and pairs obey it
      without a `cls_token` too (bert4keras returns one token more);
    * `decode` copes with an empty token before the first character.

    Special tokens in a text, such as `"[MASK]"`, are ordinary characters unless they
    are named in `allow_special`.

    Objects may be shared by threads and sent to other processes.

    Args:
        vocabulary: a path of a `vocab.txt`, the tokens in the order of their ids, or a
            `{token: id}` mapping.
        lowercase: whether to lower-case and strip accents. All released models do.
        pre_tokenize: `"jieba"` for word-level models, or any function from str to an
            iterable of words. It sees the lower-cased text.
        max_word_length: longer words are unknown without looking.
        unk_token, pad_token, cls_token, sep_token, mask_token: the special tokens, or
            None for those that the vocabulary does not have or that you do not want.
        token_translate: `{token: token}`, replaces tokens of the text after the cut.
        keep_tokens: ids of the vocabulary to keep, in the order of their new ids; give
            the same to the model.
        simplified: keep only the special tokens and what wordpiece can produce.
        zero_segments: give 0 as the segment of pairs too. RoFormerV2 and GAU-α were
            trained that way.

    Raises:
        ValueError: if a special token is missing, or a token is there twice.

    Example:

    >>> special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    >>> tokenizer = Tokenizer([*special, "今", "天", "好", "good", "##s"])
    >>> encoding = tokenizer.encode("今天 Goods", "好")
    >>> encoding.tokens
    ['[CLS]', '今', '天', 'good', '##s', '[SEP]', '好', '[SEP]']
    >>> encoding.segment_ids
    [0, 0, 0, 0, 0, 0, 1, 1]
    >>> tokenizer(["今天", "好"])["token_ids"].tolist()
    [[2, 5, 6, 3], [2, 7, 3, 0]]
    >>> tokenizer.decode(encoding.token_ids)
    '今天goods好'
    """

    def __init__(
        self,
        vocabulary: str | os.PathLike[str] | Sequence[str] | Mapping[str, int],
        *,
        lowercase: bool = True,
        pre_tokenize: str | PreTokenize | None = None,
        max_word_length: int = 200,
        unk_token: str | None = "[UNK]",
        pad_token: str | None = "[PAD]",
        cls_token: str | None = "[CLS]",
        sep_token: str | None = "[SEP]",
        mask_token: str | None = "[MASK]",
        token_translate: Mapping[str, str] | None = None,
        keep_tokens: Iterable[int] | None = None,
        simplified: bool = False,
        zero_segments: bool = False,
    ):
        lines = lines_of_vocabulary(vocabulary)
        is_file = isinstance(vocabulary, str | os.PathLike)
        tokens = [token_of_line(line) for line in lines] if is_file else lines
        specials = {
            "pad_token": pad_token,
            "unk_token": unk_token,
            "cls_token": cls_token,
            "sep_token": sep_token,
            "mask_token": mask_token,
        }
        check_special_tokens(specials, index_vocabulary(tokens))
        if simplified and keep_tokens is not None:
            raise ValueError("Pass `keep_tokens` or `simplified`, not both.")
        if simplified:
            named = dict.fromkeys(token for token in specials.values() if token)
            keep_tokens = simplify_vocabulary(tokens, named)[1]
        self.keep_tokens = None if keep_tokens is None else list(keep_tokens)
        if self.keep_tokens is not None:
            positions = as_ids(self.keep_tokens, len(tokens), "keep_tokens")
            lines = [lines[i] for i in positions]
            tokens = [tokens[i] for i in positions]
            check_special_tokens(specials, index_vocabulary(tokens))

        self.vocabulary = tokens
        self.vocabulary_size = len(tokens)
        self.lowercase = lowercase
        self.pre_tokenize = pre_tokenize
        self.max_word_length = as_length(max_word_length, "max_word_length")
        self.zero_segments = zero_segments
        self.token_translate = dict(token_translate or {})
        self.pad_token, self.unk_token = pad_token, unk_token
        self.cls_token, self.sep_token = cls_token, sep_token
        self.mask_token = mask_token
        self._lines = lines
        self._prepare()

    def _prepare(self):
        """Builds what follows from the settings and is not pickled."""
        self._ids = TokenIds(index_vocabulary(self.vocabulary), self.unk_token)
        self._splitter = Splitter(
            self._ids,
            self.lowercase,
            self.max_word_length,
            pre_tokenization.get(self.pre_tokenize),
            self.token_translate,
        )
        self._start = [] if self.cls_token is None else [self.cls_token]
        self._end = [] if self.sep_token is None else [self.sep_token]
        self._start_ids = [self._ids[token] for token in self._start]
        self._end_ids = [self._ids[token] for token in self._end]
        self._plain = Packing(self._start, self._end)
        self.pad_token_id = self._special_id(self.pad_token)
        self.unk_token_id = self._special_id(self.unk_token)
        self.cls_token_id = self._special_id(self.cls_token)
        self.sep_token_id = self._special_id(self.sep_token)
        self.mask_token_id = self._special_id(self.mask_token)

    def __getstate__(self):
        built = ("_ids", "_splitter", "_plain")
        return {k: v for k, v in self.__dict__.items() if k not in built}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._prepare()

    @classmethod
    def from_folder(cls, folder: str | os.PathLike[str], **kwargs: Any) -> "Tokenizer":
        """Reads the `vocab.txt` of a released folder.

        Args:
            folder: the folder.
            **kwargs: arguments of `Tokenizer`.

        Returns:
            A `Tokenizer`.

        Raises:
            FileNotFoundError: if the folder has no `vocab.txt`.
        """
        path = Path(folder) / "vocab.txt"
        if not path.is_file():
            raise FileNotFoundError(
                f"{Path(folder)} has no vocab.txt. Mirrors that hold only weights need "
                "the vocabulary of the model beside them."
            )
        return cls(path, **kwargs)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Writes `vocab.txt`, the same bytes as it was read from.

        After `keep_tokens` or `simplified` it is the smaller vocabulary.

        Args:
            folder: where to; made if it does not exist.

        Returns:
            The path of the file.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_vocabulary(folder / "vocab.txt", self._lines)
        return folder / "vocab.txt"

    def encode(
        self,
        text: str,
        pair: str | None = None,
        max_length: int | None = None,
        *,
        truncate_from: str | int = "right",
        add_special_tokens: bool = True,
        repeat_cls: bool = False,
        allow_special: Iterable[str] = (),
    ) -> Encoding:
        """Encodes one text or one pair of texts.

        The result is `[CLS] text [SEP]` or `[CLS] text [SEP] pair [SEP]`. If it is too
        long, tokens are taken from the longer text (the first, if equal) one by one.

        Args:
            text: a str; bytes are taken as UTF-8.
            pair: the second text.
            max_length: the greatest number of tokens, special ones included.
            truncate_from: `"right"` drops the last tokens of a text, `"left"` the
                first; an int drops at that position of each text, counted with its
                special tokens.
            add_special_tokens: whether to add `[CLS]` and `[SEP]`.
            repeat_cls: start the second text with `[CLS]` again.
            allow_special: tokens of the vocabulary, such as `("[MASK]",)`, that are
                recognised in the texts.

        Returns:
            An `Encoding`.

        Raises:
            TypeError: if a text is not a str.
            ValueError: if bytes are not UTF-8, if `max_length` has no room for the
                special tokens, or if a word is unknown and there is no `unk_token`.
        """
        splitter, text = self._splitter, as_text(text)
        special = splitter.check_special(allow_special) if allow_special else ()
        default = add_special_tokens and truncate_from == "right"
        if pair is None and max_length is None and default:
            # Most calls are like this, and short texts feel each step.
            ids = [*self._start_ids, *splitter.ids(text, special), *self._end_ids]
            find = functools.partial(self._find, (text,), special, self._plain)
            return Encoding(ids, [0] * len(ids), find)

        texts = (text,) if pair is None else (text, as_text(pair, "pair"))
        packing = self._packing(
            len(texts), max_length, truncate_from, add_special_tokens, repeat_cls
        )
        parts = [splitter.ids(each, special) for each in texts]
        parts = packing.pack(parts, self._ids.__getitem__)
        ids = list(chain.from_iterable(parts))
        segment_ids = [0] * len(ids)
        if pair is not None and not self.zero_segments:
            segment_ids[len(parts[0]) :] = [1] * len(parts[1])
        find = functools.partial(self._find, texts, special, packing)
        return Encoding(ids, segment_ids, find)

    def __call__(
        self,
        texts: Sequence[str] | str,
        pairs: Sequence[str] | str | None = None,
        max_length: int | None = None,
        *,
        length: int | Sequence[int] | None = None,
        truncate_from: str | int = "right",
        add_special_tokens: bool = True,
        repeat_cls: bool = False,
        allow_special: Iterable[str] = (),
    ) -> dict[str, np.ndarray]:
        """Encodes a batch to the padded arrays that a model takes.

        Args:
            texts: a sequence of str. One str is a batch of one.
            pairs: as many second texts.
            max_length: the greatest number of tokens of a row. By default `length`.
            length: the length of the arrays: an int, or several lengths (buckets) of
                which the smallest that fits is taken, which spares compiled models
                from new shapes. By default that of the longest row.
            truncate_from, add_special_tokens, repeat_cls, allow_special: as in
                `encode`.

        Returns:
            A dict of arrays `(batch, length)`: `token_ids` and `segment_ids` int32,
            padded with the id of `pad_token` and with 0, and `padding_mask` bool, True
            for tokens.

        Raises:
            TypeError: if a text is not a str.
            ValueError: as `encode`; or if `pairs` has another length than `texts`, if
                `max_length` is greater than `length`, or if there is no `pad_token`
                and rows differ in length.
        """
        columns = [as_batch(texts, "texts")]
        if pairs is not None:
            columns.append(as_batch(pairs, "pairs"))
            if len(columns[0]) != len(columns[1]):
                raise ValueError(
                    f"There are {len(columns[0])} texts but {len(columns[1])} pairs."
                )
        buckets = as_buckets(length)
        if buckets and max_length is None:
            max_length = buckets[-1]
        packing = self._packing(
            len(columns), max_length, truncate_from, add_special_tokens, repeat_cls
        )
        if buckets and packing.max_length > buckets[-1]:
            raise ValueError(
                f"max_length={max_length} does not fit into length={length}."
            )
        special = self._splitter.check_special(allow_special)
        ids: list[int] = []
        lengths = np.zeros((len(columns), len(columns[0])), np.int64)
        for row, row_texts in enumerate(zip(*columns, strict=True)):
            parts = [self._splitter.ids(text, special) for text in row_texts]
            for column, part in enumerate(packing.pack(parts, self._ids.__getitem__)):
                ids += part
                lengths[column, row] = len(part)
        token_ids, padding_mask = pad_rows(
            ids, lengths.sum(axis=0), buckets, self.pad_token_id
        )
        segment_ids = np.zeros_like(token_ids)
        if pairs is not None and not self.zero_segments:
            second = np.arange(token_ids.shape[1]) >= lengths[0][:, None]
            segment_ids[padding_mask & second] = 1
        return {
            "token_ids": token_ids,
            "segment_ids": segment_ids,
            "padding_mask": padding_mask,
        }

    def tokenize(self, text: str, pair: str | None = None, **kwargs: Any) -> list[str]:
        """Gives the tokens of a text, with the special ones.

        Args:
            text, pair, **kwargs: as in `encode`.

        Returns:
            A list of str.
        """
        return self.encode(text, pair, **kwargs).tokens

    def decode(self, token_ids: Sequence[int] | np.ndarray) -> str:
        """Joins tokens to readable text, without spaces between ideographs.

        Args:
            token_ids: one sequence of ids. Special tokens are left out.

        Returns:
            A str.

        Raises:
            TypeError: if an id is not an integer.
            ValueError: if an id is not in the vocabulary, or for nested sequences.
        """
        ids = as_ids(token_ids, self.vocabulary_size, "token_ids")
        return join_tokens([self.vocabulary[i] for i in ids])

    def token_to_id(self, token: str) -> int:
        """Gives the id of a token, or that of `unk_token` if it is unknown.

        Args:
            token: a str.

        Returns:
            An int.

        Raises:
            ValueError: if the token is unknown and there is no `unk_token`.
        """
        return self._ids[token]

    def id_to_token(self, token_id: int) -> str:
        """Gives the token with an id.

        Args:
            token_id: an int.

        Returns:
            A str.

        Raises:
            TypeError: if the id is not an integer.
            ValueError: if it is not in the vocabulary.
        """
        return self.vocabulary[as_ids([token_id], self.vocabulary_size, "id")[0]]

    def __repr__(self) -> str:
        return (
            f"Tokenizer(vocabulary_size={self.vocabulary_size}, "
            f"lowercase={self.lowercase}, pre_tokenize={self.pre_tokenize!r})"
        )

    def _special_id(self, token):
        return None if token is None else self._ids[token]

    def _packing(
        self, num_texts, max_length, truncate_from, add_special_tokens, repeat_cls
    ):
        start, end = (self._start, self._end) if add_special_tokens else ([], [])
        packing = Packing(start, end, max_length, truncate_from, repeat_cls)
        packing.check_room(num_texts)
        return packing

    def _find(self, texts, special, packing, what):
        """The tokens, or the offsets and text ids, of an `Encoding`."""
        if what == "tokens":
            tokens = [self._splitter.split(text, special) for text in texts]
            return list(chain.from_iterable(packing.pack(tokens, str)))
        spans = [self._splitter.spans(text, special) for text in texts]
        parts = packing.pack(spans, lambda token: None)
        text_ids = [
            None if span is None else index
            for index, part in enumerate(parts)
            for span in part
        ]
        return list(chain.from_iterable(parts)), text_ids
