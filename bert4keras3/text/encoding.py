"""What `Tokenizer.encode` returns."""

from collections.abc import Callable
from typing import Any

Span = tuple[int, int]
Places = tuple[list[Span | None], list[int | None]]


class Encoding:
    """The tokens of one text or one pair of texts, as parallel lists.

    Attributes:
        tokens: list of str. A word that is not in the vocabulary stands here as it is
            written, lower-cased if the tokenizer does that; its id is the unknown one.
        token_ids: list of int.
        segment_ids: list of int, 0 for the first text and its special tokens, 1 for the
            second; all 0 if the tokenizer was made with `zero_segments=True`.
        offsets: list of `(start, end)` or None, the half-open span of characters of the
            text that a token covers; None for the special tokens that were added.
        text_ids: list of 0, 1 or None, which text the span refers to.

    All but the ids are worked out when they are first asked for.

    Example:

    >>> from bert4keras3.text import Tokenizer
    >>> special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    >>> encoding = Tokenizer([*special, "天", "气", "good"]).encode("天气 Good")
    >>> encoding.tokens
    ['[CLS]', '天', '气', 'good', '[SEP]']
    >>> encoding.offsets
    [None, (0, 1), (1, 2), (3, 7), None]
    """

    __slots__ = ("token_ids", "segment_ids", "_tokens", "_places", "_find")

    def __init__(
        self,
        token_ids: list[int],
        segment_ids: list[int],
        find: Callable[[str], Any] | None,
        tokens: list[str] | None = None,
        places: Places | None = None,
    ):
        self.token_ids = token_ids
        self.segment_ids = segment_ids
        self._find = find
        self._tokens = tokens
        self._places = places

    @property
    def tokens(self) -> list[str]:
        if self._tokens is None:
            assert self._find is not None
            self._tokens = self._find("tokens")
        return self._tokens

    @property
    def offsets(self) -> list[Span | None]:
        return self._found_places()[0]

    @property
    def text_ids(self) -> list[int | None]:
        return self._found_places()[1]

    def __len__(self) -> int:
        return len(self.token_ids)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Encoding):
            return NotImplemented
        return self._fields() == other._fields()

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self):
        return Encoding, self._fields()

    def __repr__(self) -> str:
        return f"Encoding(tokens={self.tokens!r}, token_ids={self.token_ids!r})"

    def _found_places(self) -> Places:
        if self._places is None:
            assert self._find is not None
            self._places = self._find("places")
        return self._places

    def _fields(self):
        found = self.tokens, self._found_places()
        return self.token_ids, self.segment_ids, None, *found
