"""Norms of query and key: what takes the place of dividing the logits by `sqrt(H)`."""

from bert4keras3.naming import resolve_scheme, serialize_scheme


class QueryKeyNorm:
    """Base class: a function of query and key before positions and product.

    `QueryKeyNorm()(query, key, num_keys)` gives the query and the key whose product,
    after the positions have acted on them, is the logit.
    """

    def __call__(self, query, key, num_keys):
        """New query and key, of the shapes and dtypes given.

        Args:
            query, key: `(B, N, T, H)` and `(B, N, S, H)` in the compute dtype.
            num_keys: float32, visible keys per row, broadcasts to `(B, N, T, 1)`.
        """
        raise NotImplementedError

    def get_config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


QUERY_KEY_NORMS = {}


def get(identifier):
    """Return a query-key norm for a name, a config or an instance; `None` is none."""
    return resolve_scheme(identifier, QUERY_KEY_NORMS, "query-key norm", QueryKeyNorm)


def serialize(norm):
    """Config of a query-key norm that `get` reads back."""
    return serialize_scheme(norm)
