"""Local attention in blocks: time and memory grow with the length, not its square."""

from keras import ops

from bert4keras3.ops import places_or_given


def attend_in_blocks(
    attend,
    mask,
    query,
    key,
    value,
    attention_mask=None,
    query_positions=None,
    key_positions=None,
    with_largest_position=False,
):
    """What `attend` gives under a `LocalMask`, without the `T x T` matrix.

    The row is cut into blocks of `window` places. A block of queries meets its own
    keys, the block before and, if the window is two-way, the block after: everything
    that the window lets it see. `attend` is called once with the blocks as its batch,
    so every position scheme and normalizer works as it does on whole rows. A row of
    `T` places costs `2 T window` products, or `3 T window` two-way, which pays from
    lengths of a few windows on; rows of at most two windows (three two-way) are
    computed whole under a mask. The sinks of a Λ-mask stand in front of the keys of
    every block, `num_sinks` more per query; what is still in the window is hidden
    there, so that no key counts twice.

    Args:
        attend: function of `(query, key, value, mask, query_positions,
            key_positions)`, such as `DotProductAttention.attend`.
        mask: a `WindowMask` or a `LambdaMask`.
        query, key, value: `(B, N, T, ...)`, of one length.
        attention_mask: boolean `(B, 1, 1, T)`, the padding mask, or `None`.
        query_positions, key_positions: `None`, `(T,)` or `(B, T)`.
        with_largest_position: give `attend`, for blocks, the largest position of the
            whole row as `largest_position`, float32 `(B * blocks, 1)`.

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
        inside = mask.structure(key[:, 0, :, 0])
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
    blocks = _Blocks(batch, length, window, num_neighbours, mask.num_sinks)
    # A query of the first block is `window` places behind the first key it meets.
    query_places = ops.expand_dims(ops.arange(window) + window, 1)
    key_places = ops.expand_dims(ops.arange(num_neighbours * window), 0)
    inside = mask.visible(query_places - key_places)
    if mask.num_sinks:
        inside = blocks.with_sinks(inside, mask)
    inside = ops.logical_and(inside, ops.expand_dims(blocks.of_keys(real), (1, 2)))
    query_positions = _by_row(query_positions, batch, length)
    key_positions = _by_row(key_positions, batch, length)
    options = {}
    if with_largest_position:
        options["largest_position"] = blocks.of_row(
            ops.maximum(*(_largest(each) for each in (query_positions, key_positions)))
        )
    context = attend(
        blocks.of_queries(query),
        blocks.of_keys(key),
        blocks.of_keys(value),
        inside,
        blocks.of_queries(query_positions, edges=True),
        blocks.of_keys(key_positions, edges=True),
        **options,
    )
    return blocks.joined(context)


def _by_row(positions, batch, length):
    return ops.broadcast_to(places_or_given(length, positions), (batch, length))


def _largest(positions):
    return ops.max(positions, axis=-1, keepdims=True)


class _Blocks:
    """Cuts `(B, T)` and `(B, N, T, H)` tensors into blocks, which join the batch."""

    def __init__(self, batch, length, window, num_neighbours, num_sinks):
        self.batch, self.length, self.window = batch, length, window
        self.num_neighbours, self.num_sinks = num_neighbours, num_sinks
        self.count = (length + window - 1) // window

    def of_queries(self, x, edges=False):
        """`(B * blocks, [N,] window, ...)`; see `of_keys` for `edges`."""
        return self._into_batch(self._cut(x, 0, 0, edges))

    def of_keys(self, x, edges=False):
        """`(B * blocks, [N,] num_sinks + num_neighbours * window, ...)`.

        Before the first and after the last place there are zeros, or, with `edges`, the
        first and the last of `(B, T)` numbers: a position of 0 would be far away from
        the last block, and XPOS looks at how far positions reach.
        """
        cut = self._cut(x, 1, self.num_neighbours - 2, edges)
        axis = len(x.shape) - 2 if len(x.shape) > 2 else 1
        shifted = [
            cut[(slice(None),) * axis + (slice(first, first + self.count),)]
            for first in range(self.num_neighbours)
        ]
        if self.num_sinks:
            shifted = [self._sinks(x, axis), *shifted]
        return self._into_batch(ops.concatenate(shifted, axis=axis + 1))

    def with_sinks(self, inside, mask):
        """The mask of a block's keys, with that of the sinks in front.

        `(window, keys)` becomes `(B * blocks, 1, window, num_sinks + keys)`: which
        sinks have left the window depends on the block.
        """
        places = ops.reshape(
            ops.arange(self.count * self.window), (self.count, self.window, 1)
        )
        sinks = mask.visible_sinks(places - ops.arange(self.num_sinks))
        inside = ops.broadcast_to(inside, (self.count, *inside.shape))
        inside = ops.concatenate([sinks, inside], axis=-1)
        keys = inside.shape[-1]
        inside = ops.broadcast_to(inside, (self.batch, self.count, self.window, keys))
        return ops.reshape(inside, (self.batch * self.count, 1, self.window, keys))

    def joined(self, x):
        """`(B * blocks, N, window, E)` back to `(B, N, T, E)`."""
        _, heads, _, dim = x.shape
        x = ops.reshape(x, (self.batch, self.count, heads, self.window, dim))
        x = ops.transpose(x, (0, 2, 1, 3, 4))
        x = ops.reshape(x, (self.batch, heads, self.count * self.window, dim))
        return x[:, :, : self.length]

    def _sinks(self, x, axis):
        """`(B, [N,] blocks, num_sinks, ...)`, zeros where the row is shorter."""
        outer, inner = self._other_axes(x)
        zeros = ops.zeros((self.batch, *outer, self.num_sinks, *inner), dtype=x.dtype)
        start = (slice(None),) * axis + (slice(0, self.num_sinks),)
        first = ops.concatenate([x[start], zeros], axis=axis)[start]
        return ops.broadcast_to(
            ops.expand_dims(first, axis),
            (self.batch, *outer, self.count, self.num_sinks, *inner),
        )

    def _other_axes(self, x):
        return ((x.shape[1],), (x.shape[3],)) if len(x.shape) == 4 else ((), ())

    def of_row(self, x):
        """`(B * blocks, 1)` from one number for each row, `(B, 1)`."""
        return self._into_batch(
            ops.broadcast_to(ops.expand_dims(x, 1), (self.batch, self.count, 1))
        )

    def _cut(self, x, before, after, edges):
        """`(B, [N,] blocks + before + after, window, ...)`."""
        outer, inner = self._other_axes(x)

        def filled(places, edge):
            if edges:
                return ops.broadcast_to(edge, (self.batch, places))
            return ops.zeros((self.batch, *outer, places, *inner), dtype=x.dtype)

        count = self.count + before + after
        surplus = self.count * self.window - self.length
        parts = [filled(before * self.window, x[:, :1])] if before else []
        parts += [x, filled(surplus + after * self.window, x[:, -1:])]
        x = ops.concatenate(parts, axis=1 + len(outer))
        return ops.reshape(x, (self.batch, *outer, count, self.window, *inner))

    def _into_batch(self, x):
        if len(x.shape) == 5:
            x = ops.transpose(x, (0, 2, 1, 3, 4))
            _, _, heads, places, dim = x.shape
            return ops.reshape(x, (self.batch * self.count, heads, places, dim))
        return ops.reshape(x, (self.batch * self.count, x.shape[-1]))
