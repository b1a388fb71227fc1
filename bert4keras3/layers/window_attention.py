"""Local attention in blocks: time and memory grow with the length, not its square."""

from keras import ops


def attend_in_blocks(
    attend,
    mask,
    query,
    key,
    value,
    attention_mask=None,
    query_positions=None,
    key_positions=None,
):
    """What `attend` gives under a `LocalMask`, without the `T x T` matrix.

    The row is cut into blocks of `window` places. A block of queries meets its own
    keys, the block before and, if the mask is two-way, the block after: with the sinks
    in front, everything that the mask lets it see. `attend` is called once with the
    blocks as its batch, so every position scheme and normalizer works as it does on
    whole rows. A row of `T` places costs `T (2 window + num_sinks)` products, or
    `3 T window` two-way, which pays from lengths of a few windows on; rows that are no
    longer than what a block meets are computed whole under a mask.

    Args:
        attend: function of `(query, key, value, mask, query_positions,
            key_positions)`, such as `DotProductAttention.attend`.
        mask: a `LocalMask`.
        query, key, value: `(B, N, T, ...)`, of one length.
        attention_mask: boolean `(B, 1, 1, T)`, the padding mask, or `None`.
        query_positions, key_positions: `None`, `(T,)` or `(B, T)`.

    Returns:
        `(B, N, T, E)`.

    Raises:
        ValueError: another mask than that of the padding, or queries and keys of
            different lengths.
    """
    if attention_mask is not None and attention_mask.shape[-2] != 1:
        raise ValueError(
            "Window attention is computed in blocks and takes the padding mask alone, "
            f"(B, 1, 1, T). Received a mask of shape {tuple(attention_mask.shape)}. "
            "For another structure, give the window as an `attention_mask` to an "
            "attention without `window`."
        )
    if query.shape[-2] != key.shape[-2]:
        raise ValueError(
            "Window attention is for a row with itself. Received "
            f"{query.shape[-2]} queries and {key.shape[-2]} keys."
        )
    length, window = query.shape[-2], mask.window
    num_neighbours = 3 if mask.two_way else 2
    if length is not None and length <= num_neighbours * window + mask.num_sinks:
        places = ops.arange(length)
        inside = mask.visible(ops.expand_dims(places, 1), ops.expand_dims(places, 0))
        if attention_mask is not None:
            inside = ops.logical_and(attention_mask, inside)
        else:
            inside = ops.expand_dims(inside, (0, 1))
        return attend(query, key, value, inside, query_positions, key_positions)

    batch, length = ops.shape(query)[0], ops.shape(query)[2]
    if attention_mask is None:
        real = ops.ones((batch, length), dtype="bool")
    else:
        shape = (batch, 1, 1, length)
        real = ops.reshape(ops.broadcast_to(attention_mask, shape), (batch, length))
    blocks = _Blocks(batch, length, mask, num_neighbours)
    places = ops.broadcast_to(ops.arange(length, dtype="int32"), (batch, length))
    query_places = ops.expand_dims(blocks.of_queries(places), -1)
    key_places = ops.expand_dims(blocks.of_keys(places), -2)
    inside = mask.visible(query_places, key_places)
    inside = ops.logical_and(inside, ops.expand_dims(blocks.of_keys(real), -2))
    if mask.num_sinks:
        inside = ops.logical_and(inside, blocks.counted_once(key_places))
    inside = ops.expand_dims(inside, 1)
    context = attend(
        blocks.of_queries(query),
        blocks.of_keys(key),
        blocks.of_keys(value),
        inside,
        blocks.of_queries(_by_row(query_positions, batch, length)),
        blocks.of_keys(_by_row(key_positions, batch, length)),
    )
    return blocks.joined(context)


def _by_row(positions, batch, length):
    if positions is None:
        positions = ops.arange(length, dtype="int32")
    return ops.broadcast_to(ops.convert_to_tensor(positions), (batch, length))


class _Blocks:
    """Cuts `(B, T)` and `(B, N, T, H)` tensors into blocks, which join the batch."""

    def __init__(self, batch, length, mask, num_neighbours):
        self.batch, self.length, self.window = batch, length, mask.window
        self.num_neighbours, self.num_sinks = num_neighbours, mask.num_sinks
        self.count = (length + self.window - 1) // self.window

    def of_queries(self, x):
        """`(B * blocks, [N,] window, ...)`."""
        return self._into_batch(self._cut(x, 0, 0))

    def of_keys(self, x):
        """`(B * blocks, [N,] num_sinks + num_neighbours * window, ...)`.

        The sinks, then the neighbouring blocks in order. Before the first and after the
        last block there are zeros.
        """
        cut = self._cut(x, 1, self.num_neighbours - 2)
        axis = len(x.shape) - 2 if len(x.shape) > 2 else 1
        shifted = [
            cut[(slice(None),) * axis + (slice(first, first + self.count),)]
            for first in range(self.num_neighbours)
        ]
        if self.num_sinks:
            # A row may be shorter than the sinks.
            row = ops.concatenate([x, self._zeros(x, self.num_sinks)], axis=axis)
            sinks = row[(slice(None),) * axis + (slice(0, self.num_sinks),)]
            shape = list(ops.shape(cut))
            shape[axis : axis + 2] = [self.count, self.num_sinks]
            sinks = ops.broadcast_to(ops.expand_dims(sinks, axis), shape)
            shifted.insert(0, sinks)
        return self._into_batch(ops.concatenate(shifted, axis=axis + 1))

    def counted_once(self, key_places):
        """False for the zeros, and for the sinks that stand among the neighbours."""
        order = ops.arange(self.num_sinks + self.num_neighbours * self.window)
        is_sink = order < self.num_sinks
        return ops.logical_or(is_sink, key_places >= self.num_sinks)

    def joined(self, x):
        """`(B * blocks, N, window, E)` back to `(B, N, T, E)`."""
        _, heads, _, dim = x.shape
        x = ops.reshape(x, (self.batch, self.count, heads, self.window, dim))
        x = ops.transpose(x, (0, 2, 1, 3, 4))
        x = ops.reshape(x, (self.batch, heads, self.count * self.window, dim))
        return x[:, :, : self.length]

    def _cut(self, x, before, after):
        """`(B, [N,] blocks + before + after, window, ...)`."""
        count = self.count + before + after
        surplus = self.count * self.window - self.length
        parts = [self._zeros(x, before * self.window)] if before else []
        parts += [x, self._zeros(x, surplus + after * self.window)]
        if len(x.shape) == 2:
            x = ops.concatenate(parts, axis=1)
            return ops.reshape(x, (self.batch, count, self.window))
        _, heads, _, dim = x.shape
        x = ops.concatenate(parts, axis=2)
        return ops.reshape(x, (self.batch, heads, count, self.window, dim))

    def _zeros(self, x, places):
        """Zeros to be set before or behind a row."""
        shape = list(ops.shape(x))
        shape[0], shape[1 if len(shape) == 2 else 2] = self.batch, places
        return ops.zeros(shape, dtype=x.dtype)

    def _into_batch(self, x):
        if len(x.shape) == 5:
            x = ops.transpose(x, (0, 2, 1, 3, 4))
            _, _, heads, places, dim = x.shape
            return ops.reshape(x, (self.batch * self.count, heads, places, dim))
        return ops.reshape(x, (self.batch * self.count, x.shape[-1]))
