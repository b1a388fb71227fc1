"""Cutting long texts at punctuation."""


def split_text(
    text: str, max_length: int, separators: str = "\n", strip: str | None = None
) -> list[str]:
    """Cuts a text into parts of at most `max_length` characters, at separators.

    The text is cut at the first separator and the parts are joined again as far as
    they fit; a part that is still too long is cut at the next separator, and so on.
    A part with no separator left stays as long as it is. Equals `text_segmentate` of
    bert4keras.

    Args:
        text: a str.
        max_length: the greatest length of a part, in characters.
        separators: single characters, those to prefer first.
        strip: characters to take off both ends of every part, besides white space,
            which is always taken off.

    Returns:
        A list of str, at least one. Each part keeps the separator that ends it.

    Example:

    >>> split_text("天气好。去玩吧！", 5, "。！")
    ['天气好。', '去玩吧！']
    """
    text = text.strip().strip(strip)
    if not separators or len(text) <= max_length:
        return [text]
    separator, others = separators[0], separators[1:]
    pieces = text.split(separator)
    groups: list[str] = []
    group: list[str] = []
    group_length = 0
    for index, piece in enumerate(pieces):
        if group_length and piece and group_length + len(piece) >= max_length:
            groups.append("".join(group))
            group, group_length = [], 0
        if index + 1 < len(pieces):
            piece += separator
        group.append(piece)
        group_length += len(piece)
    if group_length:
        groups.append("".join(group))
    return [
        part for each in groups for part in split_text(each, max_length, others, strip)
    ]
