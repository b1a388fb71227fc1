"""Special tokens around one or two texts, and what goes when they are too long."""

from collections.abc import Callable
from typing import TypeVar

from bert4keras3.text.inputs import as_integer, as_length
from bert4keras3.text.truncation import remove_items, truncated_lengths

T = TypeVar("T")


class Packing:
    """The form `[CLS] text [SEP] pair [SEP]`, cut to a greatest length.

    Args:
        start: what every text starts with: `["[CLS]"]` or nothing.
        end: what every text ends with: `["[SEP]"]` or nothing.
        max_length: the greatest total length, or None.
        truncate_from: `"right"`, `"left"`, or the position where items are removed.
        repeat_start: whether the second text has its `start` too.

    Raises:
        TypeError: if `max_length` or a position is not an integer.
        ValueError: if `max_length` is negative, or for an unknown `truncate_from`.
    """

    __slots__ = ("start", "end", "max_length", "truncate_from", "repeat_start")

    def __init__(
        self,
        start: list[str],
        end: list[str],
        max_length: int | None = None,
        truncate_from: str | int = "right",
        repeat_start: bool = False,
    ):
        self.start, self.end = start, end
        self.max_length = max_length
        self.truncate_from = truncate_from
        self.repeat_start = repeat_start
        if max_length is not None:
            self.max_length = as_length(max_length, "max_length")
        if truncate_from != "right" and truncate_from != "left":
            if isinstance(truncate_from, str):
                raise ValueError(
                    "`truncate_from` must be 'right', 'left' or an int, not "
                    f"{truncate_from!r}."
                )
            self.truncate_from = as_integer(truncate_from, "truncate_from")

    def check_room(self, num_texts: int) -> None:
        """Raises ValueError if there is no room for the special tokens.

        Args:
            num_texts: 1 or 2.
        """
        around = len(self.start) + len(self.end)
        needed = num_texts * around - self._dropped(num_texts)
        if self.max_length is not None and self.max_length < needed:
            special = [*self.start, *self.end]
            if num_texts == 2:
                special += [*(self.start if self.repeat_start else []), *self.end]
            raise ValueError(
                f"max_length={self.max_length} has no room for the special tokens "
                f"{' '.join(special)}: use at least {needed + num_texts} (or "
                "`add_special_tokens=False`)."
            )

    def pack(self, parts: list[list[T]], stand_in: Callable[[str], T]) -> list[list[T]]:
        """Puts special tokens around one or two texts, and shortens them.

        Args:
            parts: one or two lists, of tokens or of what goes with each token.
            stand_in: gives what goes with a special token.

        Returns:
            As many new lists.

        Raises:
            ValueError: if `truncate_from` is a position that some text does not have.
        """
        start, end = list(map(stand_in, self.start)), list(map(stand_in, self.end))
        packed = [[*start, *part, *end] for part in parts]
        dropped = self._dropped(len(parts))
        if self.max_length is not None:
            room = self.max_length + dropped
            lengths = [len(items) for items in packed]
            if sum(lengths) > room:
                index = self._index()
                kept = truncated_lengths(room, lengths)
                both = zip(packed, kept, strict=True)
                packed = [remove_items(items, index, length) for items, length in both]
        if dropped:
            del packed[1][:dropped]
        return packed

    def _dropped(self, num_texts):
        return 0 if self.repeat_start or num_texts == 1 else len(self.start)

    def _index(self):
        if self.truncate_from == "right":
            return -len(self.end) - 1
        return len(self.start) if self.truncate_from == "left" else self.truncate_from
