"""Rows of several sets in one batch: shares, passes, going on."""

import numpy as np
import pytest

from bert4keras3.training.mixed_sets import mixed_sets, rows_of_sets


class TestRows:
    def test_shares_follow_the_temperature(self):
        counts = {"large": 10_000, "middle": 1_000, "small": 10}
        assert rows_of_sets(counts, 111) == {"large": 100, "middle": 10, "small": 1}
        roots = np.sqrt([10_000, 1_000, 10])
        wanted = 300 * roots / roots.sum()
        given = rows_of_sets(counts, 300, temperature=2)
        assert np.abs(np.array(list(given.values())) - wanted).max() < 1
        assert set(rows_of_sets(counts, 30, temperature=1e9).values()) == {10}

    @pytest.mark.parametrize("batch_size", [3, 4, 5, 17, 64])
    @pytest.mark.parametrize("temperature", [0.01, 0.5, 1, 3])
    def test_each_has_one_and_the_sum_is_the_batch(self, batch_size, temperature):
        counts = {"a": 391_782, "b": 50, "c": 1}
        rows = rows_of_sets(counts, batch_size, temperature)
        assert sum(rows.values()) == batch_size
        assert min(rows.values()) >= 1
        assert rows["a"] >= rows["b"] >= rows["c"]

    def test_errors(self):
        with pytest.raises(ValueError, match="no place for each of 2 sets"):
            rows_of_sets({"a": 1, "b": 1}, 1)
        with pytest.raises(ValueError, match="one example at least"):
            rows_of_sets({"a": 0}, 1)
        with pytest.raises(ValueError, match="must be positive"):
            rows_of_sets({"a": 1}, 1, temperature=0)


def source(count, start=0):
    numbers = np.arange(start, start + count)
    return count, lambda rows: (numbers[rows], -numbers[rows])


def read(batches, how_many):
    return [
        {name: tensor.numpy().tolist() for name, tensor in x.items()}
        for x, _, _ in batches.take(how_many)
    ]


class TestBatches:
    SETS = {"ten": source(10), "seven": source(7, 100)}
    ROWS = {"ten": 4, "seven": 3}

    def test_every_pass_has_each_row_once_in_another_order(self):
        batches = read(mixed_sets(self.SETS, self.ROWS), 35)
        passes = np.reshape([b["ten"] for b in batches], (14, 10))
        assert (np.sort(passes, axis=1) == np.arange(10)).all()
        assert len({tuple(order) for order in passes.tolist()}) == 14
        passes = np.reshape([b["seven"] for b in batches], (15, 7))
        assert (np.sort(passes, axis=1) == np.arange(100, 107)).all()

    def test_it_goes_on_from_any_batch(self):
        whole = read(mixed_sets(self.SETS, self.ROWS, seed=3), 12)
        assert read(mixed_sets(self.SETS, self.ROWS, 3, first_batch=5), 7) == whole[5:]
        assert read(mixed_sets(self.SETS, self.ROWS, seed=4), 12) != whole

    def test_labels_stay_beside_their_rows(self):
        for x, y, weights in mixed_sets(self.SETS, self.ROWS).take(3):
            assert not weights
            for name in self.SETS:
                assert (x[name].numpy() == -y[name].numpy()).all()
                assert x[name].shape == (self.ROWS[name],)

    def test_more_rows_than_a_set_has(self):
        (batch,) = read(mixed_sets({"two": source(2)}, {"two": 5}), 1)
        assert sorted(set(batch["two"])) == [0, 1]

    def test_unequal_shapes_are_refused(self):
        def take(rows):
            return (np.zeros((len(rows), 1 + int(rows[0] == 3))), rows)

        batches = mixed_sets({"uneven": (4, take)}, {"uneven": 1})
        with pytest.raises(Exception, match="[Ss]hape"):
            list(batches.take(4))
