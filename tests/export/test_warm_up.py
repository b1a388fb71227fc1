"""Requests for warming up are those that the model takes."""

import pytest
from small_tasks import CHARACTERS, TEXTS, backbone, small_task, tokenizer

from bert4keras3.export.saved_model import export_saved_model


@pytest.mark.parametrize("name", ["text_classifier", "multiple_choice"])
def test_requests_are_answered(tmp_path, name):
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    folder = tmp_path / "mood" / "1"
    small_task(name).export(folder, warm_up=TEXTS[:2])
    file = folder / "assets.extra" / "tf_serving_warmup_requests"
    loaded = tf.saved_model.load(str(folder))
    sizes = []
    for record in tf.data.TFRecordDataset(str(file)):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        request = log.predict_log.request
        assert request.model_spec.name == "mood"
        columns = {
            key: tf.constant(tf.make_ndarray(each))
            for key, each in request.inputs.items()
        }
        sizes.append(int(columns["text"].shape[0]))
        loaded.signatures[request.model_spec.signature_name](**columns)
    assert sizes == [1, 1, 2]


def test_too_many_texts_and_no_tokenizer(tmp_path):
    task = small_task("text_classifier")
    with pytest.raises(ValueError, match="1 to 999 texts. Received 1000"):
        task.export(tmp_path / "a" / "1", warm_up=["好"] * 1000)
    model = backbone(tokenizer(CHARACTERS).vocabulary_size)
    with pytest.raises(ValueError, match="takes no texts to warm up with"):
        export_saved_model(model, tmp_path / "b" / "1", warm_up=["好"])
    assert not [*(tmp_path / "a").iterdir(), *(tmp_path / "b").iterdir()]
