"""Requests that TF Serving sends a model before it answers its first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["write_warm_up"]

FILE = "tf_serving_warmup_requests"
MOST = 1000  # as TF Serving reads


def write_warm_up(
    folder: Path,
    model_name: str,
    texts: Sequence[str],
    columns: Sequence[Any],
    signature: str = "serving_default",
) -> Path:
    """Write `assets.extra/tf_serving_warmup_requests`.

    The first request of a model takes many times as long as the next, for each new
    form of its batch. There is one request for each text, and one for all together.

    Source: https://www.tensorflow.org/tfx/serving/saved_model_warmup.

    Args:
        folder: of the version.
        model_name: as the server is told it.
        texts: what to send, up to 999 of them; choose short and long ones.
        columns: specs of what the signature takes; each gets the texts.
        signature: its name.

    Returns:
        The path of the file.

    Raises:
        ImportError: tensorflow-serving-api is not installed.
        ValueError: no texts, or too many.
    """
    import tensorflow as tf

    try:
        from tensorflow_serving.apis import prediction_log_pb2
    except ImportError as error:
        raise ImportError(
            "Warm-up requests are written with TF Serving's own messages: pip install "
            '"bert4keras3-zoo[serving]".'
        ) from error
    texts = list(texts)
    if not 1 <= len(texts) < MOST:
        raise ValueError(
            f"`warm_up` takes 1 to {MOST - 1} texts. Received {len(texts)}."
        )
    path = Path(folder) / "assets.extra" / FILE
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for batch in [*([text] for text in texts), texts]:
            log = prediction_log_pb2.PredictionLog()
            request = log.predict_log.request
            request.model_spec.name = model_name
            request.model_spec.signature_name = signature
            for spec in columns:
                # A column of several texts for each row gets each text twice.
                value = tf.constant(batch)
                if spec.shape.rank == 2:
                    value = tf.stack([value, value], axis=1)
                request.inputs[spec.name].CopyFrom(tf.make_tensor_proto(value))
            writer.write(log.SerializeToString())
    return path
