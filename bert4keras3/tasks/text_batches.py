"""Raw texts as batches that `fit` can read."""

import keras
import numpy as np


def is_text(x):
    """Whether `x` is a string, strings, or a pair of lists of strings."""
    if isinstance(x, str):
        return True
    if isinstance(x, np.ndarray):
        return x.dtype.kind in "US" or (
            x.dtype.kind == "O" and x.size > 0 and isinstance(x.flat[0], str)
        )
    if isinstance(x, list | tuple) and len(x):
        return isinstance(x[0], str) or (isinstance(x, tuple) and is_text(x[0]))
    return False


def check_texts(x):
    """Refuse lists that hold nothing, or something else than texts or arrays.

    Raises:
        ValueError: an empty list.
        TypeError: a list of numbers, bytes or `None`.
    """
    column = x[0] if isinstance(x, tuple) and len(x) == 2 else x
    if not isinstance(column, list | tuple):
        return
    if not len(column):
        raise ValueError(
            "There are no texts: the list is empty. Pass one text or more, for example "
            'fit(["..."], labels).'
        )
    if isinstance(column[0], int | float | bytes | None):
        raise TypeError(
            "Texts are strings. Received a list that begins with "
            f"{column[0]!r} of type {type(column[0]).__name__}. Pass strings, or token "
            'ids as {"token_ids": array}.'
        )


def is_text_dataset(x):
    """Whether `x` is a `tf.data.Dataset` of strings, alone, paired or with labels."""
    spec = getattr(x, "element_spec", None)
    while isinstance(spec, tuple) and spec:
        spec = spec[0]
    return getattr(getattr(spec, "dtype", None), "name", None) == "string"


def encode_dataset(dataset, preprocessor, inputs_only=False):
    """Encode a batched `tf.data.Dataset` of strings where it is read, on the host.

    Args:
        dataset: elements are `texts`, `(texts, labels)` or `((texts, pairs), labels)`.
        preprocessor: as for `TextBatches`.
        inputs_only: give model inputs without labels and weights.

    Returns:
        A `tf.data.Dataset` of what a training step takes.

    Raises:
        ValueError: the dataset is not batched.
    """
    import tensorflow as tf

    spec = dataset.element_spec
    x_spec = spec[0] if isinstance(spec, tuple) else spec
    is_paired = isinstance(x_spec, tuple)
    first = x_spec[0] if is_paired else x_spec
    if first.shape.rank != 1:
        raise ValueError(
            "A dataset of strings must be batched: call dataset.batch(32) first. "
            f"Received elements of shape {first.shape}."
        )
    has_labels = isinstance(spec, tuple) and len(spec) > 1
    example = preprocessor(
        ["a"], ["a"] if is_paired else None, [0] if has_labels else None, inputs_only
    )
    parts = tf.nest.flatten(example)

    def encode(*columns):
        columns = list(columns)
        texts = [text.decode("utf-8") for text in columns.pop(0)]
        pairs = None
        if is_paired:
            pairs = [text.decode("utf-8") for text in columns.pop(0)]
        labels = columns.pop(0) if has_labels else None
        return tf.nest.flatten(preprocessor(texts, pairs, labels, inputs_only))

    def step(*element):
        columns = tf.nest.flatten(element)[: 1 + is_paired + has_labels]
        arrays = tf.numpy_function(encode, columns, [part.dtype for part in parts])
        for array, part in zip(arrays, parts, strict=True):
            array.set_shape([None] * part.ndim)
        return tf.nest.pack_sequence_as(example, arrays)

    return dataset.map(step, num_parallel_calls=tf.data.AUTOTUNE)


class Batches(keras.utils.PyDataset):
    """Base of the batches: rows in an order of their own, drawn anew at each epoch.

    A subclass has `take(rows)`, which gives a batch of the rows with these numbers.

    Args:
        num_rows: how many there are.
        batch_size: rows per batch; the last batch may be smaller.
        shuffle: draw a new order at each epoch.
    """

    def __init__(self, num_rows, batch_size=32, shuffle=False, **kwargs):
        super().__init__(**kwargs)
        self.batch_size = batch_size
        self.order = np.arange(num_rows)
        # From NumPy's global state, which `keras.utils.set_random_seed` sets.
        self.random = np.random.default_rng(np.random.randint(2**31))
        self.shuffle = shuffle
        self.on_epoch_end()

    def __len__(self):
        return -(-len(self.order) // self.batch_size)

    def __getitem__(self, index):
        start = index * self.batch_size
        return self.take(self.order[start : start + self.batch_size])

    def on_epoch_end(self):
        if self.shuffle:
            self.random.shuffle(self.order)


class TextBatches(Batches):
    """Batches of texts, encoded by a preprocessor when they are read.

    Args:
        preprocessor: callable `(texts, pairs, labels, inputs_only)` that gives what a
            training step takes.
        texts: list of strings, or a pair of such lists.
        labels: one per text, or `None`.
        batch_size: texts per batch; the last batch may be smaller.
        shuffle: draw a new order at each epoch.
        inputs_only: give model inputs without labels and weights.
    """

    def __init__(
        self,
        preprocessor,
        texts,
        labels=None,
        batch_size=32,
        shuffle=False,
        inputs_only=False,
        **kwargs,
    ):
        self.preprocessor = preprocessor
        self.texts, self.pairs = _split_pairs(texts)
        self.labels = labels
        self.inputs_only = inputs_only
        for name, column in (("pairs", self.pairs), ("labels", labels)):
            if column is not None and len(column) != len(self.texts):
                raise ValueError(
                    f"There are {len(self.texts)} texts but {len(column)} {name}."
                )
        super().__init__(len(self.texts), batch_size, shuffle, **kwargs)

    def take(self, rows):
        def pick(column):
            return None if column is None else [column[row] for row in rows]

        return self.preprocessor(
            pick(self.texts),
            pairs=pick(self.pairs),
            labels=pick(self.labels),
            inputs_only=self.inputs_only,
        )


def as_stream(batches, sequence_length):
    """What `fit` should be given on this backend for batches of unequal lengths.

    Keras takes the shapes of a `PyDataset` on TensorFlow from its first two batches and
    refuses a later one of another length, so there it becomes a `tf.data.Dataset`.

    Args:
        batches: a `TextBatches` or `ArrayBatches`.
        sequence_length: length of the inputs, if all batches have the same.

    Returns:
        `batches`, or a `tf.data.Dataset` that shuffles as they do.
    """
    if keras.backend.backend() != "tensorflow":
        return batches
    import tensorflow as tf

    length = sequence_length if isinstance(sequence_length, int) else None

    def spec(array):
        array = np.asarray(array)
        last = [length if size == length else None for size in array.shape[1:][-1:]]
        shape = [None] * (array.ndim - len(last)) + last
        return tf.TensorSpec(shape, array.dtype)

    signature = keras.tree.map_structure(spec, batches[0])

    def one_epoch():
        # Here and not at the end, which Keras need not reach: it counts the steps.
        batches.on_epoch_end()
        for index in range(len(batches)):
            yield batches[index]

    dataset = tf.data.Dataset.from_generator(one_epoch, output_signature=signature)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(batches)))
    options = tf.data.Options()
    # The tuner's thread is waited for at the end of each epoch, up to ten seconds.
    options.autotune.enabled = False
    return dataset.prefetch(2).with_options(options)


def _split_pairs(texts):
    if isinstance(texts, str):
        return [texts], None
    if isinstance(texts, tuple) and len(texts) == 2 and not isinstance(texts[0], str):
        return list(texts[0]), list(texts[1])
    return list(texts), None


class ArrayBatches(Batches):
    """Batches of arrays that are all encoded before the first is read.

    Args:
        arrays: inputs, or a tuple of inputs, labels and weights; nested dicts and
            tuples of arrays with equal first dimensions.
        batch_size: rows per batch; the last batch may be smaller.
        shuffle: draw a new order at each epoch.
    """

    def __init__(self, arrays, batch_size=32, shuffle=False, **kwargs):
        num_rows = len(keras.tree.flatten(arrays)[0])
        super().__init__(num_rows, batch_size, shuffle, **kwargs)
        self.arrays = arrays

    def take(self, rows):
        return keras.tree.map_structure(lambda array: array[rows], self.arrays)
