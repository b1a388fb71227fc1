"""Endless synthetic text for masked language models: a Markov chain of tokens."""

import numpy as np

MASK, FIRST_TOKEN = 1, 2
SUCCESSORS = (0.8, 0.1, 0.1)  # chances of the three tokens that may follow a token


class MarkovText:
    """Rows of a chain in which each of `num_tokens` tokens has three successors.

    Most of a masked token can be told from its two neighbours, the rest from nothing,
    so the best accuracy is the same at every length, and what a model loses with
    length it loses to the length itself.
    """

    def __init__(self, num_tokens=32, seed=0):
        self.rng = np.random.default_rng(seed)
        orders = np.stack(
            [self.rng.permutation(num_tokens) for _ in range(len(SUCCESSORS))]
        )
        self.successors = orders.T  # (token, which)
        self.num_tokens = num_tokens

    @property
    def vocabulary_size(self):
        return FIRST_TOKEN + self.num_tokens

    def rows(self, batch_size, length):
        """`(batch_size, length)` token ids."""
        rows = np.empty((batch_size, length), "int32")
        rows[:, 0] = self.rng.integers(self.num_tokens, size=batch_size)
        steps = self.rng.choice(len(SUCCESSORS), (batch_size, length), p=SUCCESSORS)
        for place in range(1, length):
            rows[:, place] = self.successors[rows[:, place - 1], steps[:, place]]
        return rows + FIRST_TOKEN

    def masked(self, batch_size, length, share=0.15):
        """Token ids with masks, the tokens, and 1.0 where a mask stands."""
        targets = self.rows(batch_size, length)
        chosen = self.rng.random(targets.shape) < share
        chosen[:, 0] |= ~chosen.any(1)
        return np.where(chosen, MASK, targets), targets, chosen.astype("float32")
