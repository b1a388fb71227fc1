"""Exact entities: precision, recall and F1, over all of them and per type.

Of the entities of a type, `TP` are right, `FP` were found in vain and `FN` were missed:

    precision = TP / (TP + FP),  recall = TP / (TP + FN)
    F1 = 2 TP / (2 TP + FP + FN)

*Micro* sums the counts of all types first: each entity counts the same. *Macro* is the
mean of the types' F1: each type counts the same. A ratio with denominator 0 is 0.
"""

import keras
from keras import ops


def entity_scores(references, predictions, types=None):
    """Micro, macro and per-type scores from sets of entities.

    An entity is right if it is in the set of the same text: for tuples
    `(start, end, type)`, if both ends and the type are. The official score of CLUENER
    2020 is `macro_f1` of `cluener_entities`, with the ten types.

    Source: https://github.com/CLUEbenchmark/CLUENER2020 (`score.py`).

    Args:
        references: one collection of tuples per text, whose last element is the type.
        predictions: the same, text by text.
        types: what the macro F1 is the mean over; by default each type that occurs in
            `references` or `predictions`.

    Returns:
        Dict with `precision`, `recall` and `f1` (micro), `macro_f1`, and `types`, a
        dict from each type to its `precision`, `recall`, `f1` and `support`, the
        number of its entities in `references`.

    Raises:
        ValueError: as many references as predictions are needed; or an entity's type
            is not in `types`.

    Example:

    >>> scores = entity_scores([{(0, 1, "name"), (3, 5, "book")}], [{(0, 1, "name")}])
    >>> scores["precision"], scores["recall"], scores["macro_f1"]
    (1.0, 0.5, 0.5)
    """
    references, predictions = list(references), list(predictions)
    if len(references) != len(predictions):
        raise ValueError(
            f"There must be one prediction for each text. Received {len(references)} "
            f"references and {len(predictions)} predictions; give an empty set for a "
            f"text without entities."
        )
    counts = {kind: [0, 0, 0] for kind in types or ()}
    for reference, prediction in zip(references, predictions, strict=True):
        reference, prediction = set(reference), set(prediction)
        groups = (
            reference & prediction,
            prediction - reference,
            reference - prediction,
        )
        for place, group in enumerate(groups):
            for entity in group:
                if types is not None and entity[-1] not in counts:
                    raise ValueError(
                        f"The last element of an entity is its type, one of "
                        f"{', '.join(map(str, types))}. Received {entity!r}."
                    )
                counts.setdefault(entity[-1], [0, 0, 0])[place] += 1
    per_type = {
        kind: {**_scores(*each), "support": each[0] + each[2]}
        for kind, each in sorted(counts.items(), key=lambda item: str(item[0]))
    }
    total = [sum(each[place] for each in counts.values()) for place in range(3)]
    f1 = [each["f1"] for each in per_type.values()]
    macro = sum(f1) / len(f1) if f1 else 0.0
    return {**_scores(*total), "macro_f1": macro, "types": per_type}


def _scores(right, wrong, missed):
    return {
        "precision": right / max(right + wrong, 1),
        "recall": right / max(right + missed, 1),
        "f1": 2 * right / max(2 * right + wrong + missed, 1),
    }


def cluener_entities(label):
    """The entities of a line of CLUENER's files, as its official score counts them.

    That score compares the words of entities, not their places: a word that is twice
    in a text with the same type counts once.

    Source: https://github.com/CLUEbenchmark/CLUENER2020 (`score.py`).

    Args:
        label: dict, `{type: {entity: places}}`.

    Returns:
        Set of tuples `(entity, type)`.

    Example:

    >>> cluener_entities({"name": {"温格": [[0, 1], [7, 8]]}})
    {('温格', 'name')}
    """
    return {(entity, kind) for kind, found in label.items() for entity in found}


@keras.saving.register_keras_serializable(package="bert4keras3")
class SpanF1(keras.metrics.Metric):
    """F1 of spans by type, from the logits of a global pointer.

    A span is found where its logit is above the threshold, and right where the label
    is 1. Counts are summed over all batches before a ratio is taken. Micro and macro
    are those of this module; macro is over the types that occurred so far.

    Sources: https://kexue.fm/archives/8373, https://arxiv.org/abs/2208.03054.

    Args:
        num_types: int, types of spans.
        average: `"micro"` or `"macro"`.
        threshold: float.
        axis: int, the axis of the types; 1 for `(B, N, T, T)` of `GlobalPointer`.
        name: string.
        dtype: dtype of the counts.

    Raises:
        ValueError: an unknown average, or shapes of labels and logits that differ or
            lack the axis of the types.

    Example:

    >>> metric = SpanF1(num_types=1)
    >>> labels = np.array([[[[0, 1], [0, 1]]]])
    >>> metric.update_state(labels, np.array([[[[-3.0, 5.0], [-1.0, -2.0]]]]))
    >>> round(float(metric.result()), 3)  # one of two spans
    0.667
    """

    def __init__(
        self,
        num_types,
        average="micro",
        threshold=0.0,
        axis=1,
        name="span_f1",
        dtype=None,
    ):
        super().__init__(name=name, dtype=dtype)
        if average not in ("micro", "macro"):
            raise ValueError(
                f"`average` must be 'micro' or 'macro'. Received {average!r}."
            )
        self.num_types = num_types
        self.average = average
        self.threshold = threshold
        self.axis = axis
        # A kind of count in each row; types in columns.
        self.counts = self.add_variable(
            (3, num_types), initializer="zeros", name="counts"
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Add a batch.

        Args:
            y_true: 0 and 1, of the shape of the logits.
            y_pred: `(B, ...)` logits.
            sample_weight: `(B,)`, weights of the texts, or `None`.
        """
        shape = tuple(y_pred.shape)
        differ = len(y_true.shape) != len(shape) or any(
            one is not None and other is not None and one != other
            for one, other in zip(y_true.shape, shape, strict=False)
        )
        if differ or len(shape) <= self.axis or shape[self.axis] != self.num_types:
            raise ValueError(
                f"Labels and logits must have the same shape, with {self.num_types} "
                f"types on axis {self.axis}. Received {tuple(y_true.shape)} and "
                f"{shape}."
            )
        expected = ops.cast(y_true, self.dtype)
        found = ops.cast(ops.convert_to_tensor(y_pred) > self.threshold, self.dtype)
        groups = ops.stack(
            [expected * found, (1.0 - expected) * found, expected * (1.0 - found)]
        )
        if sample_weight is not None:
            weight = ops.cast(sample_weight, self.dtype)
            weight = ops.reshape(weight, (1, -1) + (1,) * (len(shape) - 1))
            groups = groups * weight
        others = [a + 1 for a in range(len(shape)) if a != self.axis % len(shape)]
        self.counts.assign_add(ops.sum(groups, axis=others))

    def result(self):
        counts = ops.convert_to_tensor(self.counts)
        if self.average == "micro":
            counts = ops.sum(counts, axis=1, keepdims=True)
        right, wrong, missed = counts[0], counts[1], counts[2]
        size = 2.0 * right + wrong + missed
        occurs = ops.cast(size > 0, counts.dtype)
        f1 = 2.0 * right / ops.where(size > 0, size, 1.0)
        return ops.sum(f1) / ops.maximum(ops.sum(occurs), 1.0)

    def reset_state(self):
        self.counts.assign(ops.zeros(self.counts.shape, self.counts.dtype))

    def get_config(self):
        return {
            "num_types": self.num_types,
            "average": self.average,
            "threshold": self.threshold,
            "axis": self.axis,
            "name": self.name,
            "dtype": self.dtype,
        }
