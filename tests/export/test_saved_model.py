"""An exported model answers as the task does, to every signature."""

import json
import os
import shutil

import keras
import numpy as np
import pytest
from small_tasks import CHARACTERS, EXAMPLES, TEXTS, backbone, small_task, tokenizer

from bert4keras3.export.saved_model import export_saved_model
from bert4keras3.tasks.text_classifier import TextClassifier
from bert4keras3.tasks.text_preprocessor import TextPreprocessor

TASKS = list(EXAMPLES)
# What models of random weights say is near to chance; more weight makes them decide.
ODD_TEXTS = [*TEXTS, "", " 人\u200b山 在人", "é天\x00地\u2028", "人在山" * 9]


def served(folder):
    """Signatures of an exported folder."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder))
    served.kept = loaded  # its variables live as long as it does
    return loaded.signatures


def call(signature, **columns):
    import tensorflow as tf

    tensors = {name: tf.constant(value) for name, value in columns.items()}
    return {name: value.numpy() for name, value in signature(**tensors).items()}


def strings(array):
    return [each.decode() for each in array.tolist()]


def decided(name):
    """A task whose weights are large, so that its answers differ from text to text."""
    keras.utils.set_random_seed(4)
    task = small_task(name)
    for variable in task.trainable_variables:
        value = np.random.default_rng(len(variable.path)).normal(
            0, 0.4, tuple(variable.shape)
        )
        variable.assign(value)
    return task


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """From the name of a task to it and its signatures; each exported once."""
    made = {}

    def export(name):
        if name not in made:
            task = decided(name)
            folder = tmp_path_factory.mktemp(name) / "1"
            export_saved_model(task, folder)
            made[name] = task, served(folder), folder, served.kept
        return made[name][:3]

    return export


@pytest.mark.parametrize("name", TASKS)
def test_tokenized_gives_the_outputs_of_the_model(exported, name):
    task, signatures, folder = exported(name)
    example = EXAMPLES[name]
    if name == "masked_lm":
        inputs = task.preprocessor(TEXTS, inputs_only=True)
    else:
        batches = task._text_batches(example.x, None, 4, inputs_only=True)
        inputs = batches[0]
    described = json.loads((folder / "assets.extra" / "signatures.json").read_text())
    wanted = described["tokenized"]["inputs"]
    columns = {key: np.asarray(inputs[key]).astype("int32") for key in wanted}
    given = call(signatures["tokenized"], **columns)
    expected = task(inputs, training=False)
    if not isinstance(expected, dict):
        (key,) = given
        expected = {key: expected}
    for key, value in expected.items():
        np.testing.assert_allclose(given[key], value.numpy(), atol=1e-5, rtol=1e-5)
        assert given[key].dtype == np.float32


@pytest.mark.parametrize("name", ["text_classifier", "question_answering"])
def test_tokens_and_embeddings(exported, name):
    task, signatures, _ = exported(name)
    given = call(signatures["tokens"], text=ODD_TEXTS)
    vectors = call(signatures["embeddings"], text=ODD_TEXTS)
    for row, text in enumerate(ODD_TEXTS):
        encoding = task.tokenizer.encode(text, max_length=12)
        length = len(encoding.token_ids)
        assert given["token_ids"][row, :length].tolist() == encoding.token_ids
        spans = [
            None if a < 0 else (a, b)
            for a, b in zip(
                given["starts"][row, :length].tolist(),
                given["ends"][row, :length].tolist(),
                strict=True,
            )
        ]
        assert spans == encoding.offsets
        states = task.backbone({"token_ids": np.array([encoding.token_ids])}).numpy()
        np.testing.assert_allclose(vectors["first"][row], states[0, 0], atol=1e-5)
        np.testing.assert_allclose(vectors["mean"][row], states[0].mean(0), atol=1e-5)


class TestAnswers:
    def test_classes(self, exported):
        task, signatures, folder = exported("text_classifier")
        given = call(signatures["serving_default"], text=ODD_TEXTS)
        expected = task.classify(ODD_TEXTS, top_k=2)
        assert strings(given["label"]) == [best[0][0] for best in expected]
        for row, best in enumerate(expected):
            assert given["probability"][row] == pytest.approx(best[0][1], abs=1e-5)
        assert len(set(strings(given["label"]))) == 2
        labels = (folder / "assets.extra" / "labels.txt").read_text()
        assert labels.split() == ["near", "far"]

    def test_pairs(self, tmp_path):
        words = tokenizer(CHARACTERS)
        task = TextClassifier(
            backbone(words.vocabulary_size), TextPreprocessor(words, 12), num_classes=3
        )
        export_saved_model(task, tmp_path / "1", pairs=True)
        pairs = ODD_TEXTS[::-1]
        given = call(
            served(tmp_path / "1")["serving_default"], text=ODD_TEXTS, pair=pairs
        )
        expected = task.predict((ODD_TEXTS, pairs), verbose=0)
        np.testing.assert_allclose(given["logits"], expected, atol=1e-5)
        assert set(strings(given["label"])) <= {"0", "1", "2"}

    def test_vectors(self, exported):
        task, signatures, _ = exported("text_embedder")
        given = call(signatures["serving_default"], text=ODD_TEXTS)
        expected = task.embed(ODD_TEXTS)
        np.testing.assert_allclose(given["embedding"], expected, atol=1e-5)

    def test_entities(self, exported):
        task, signatures, _ = exported("entity_recognizer")
        given = call(signatures["serving_default"], text=ODD_TEXTS)
        expected = task.recognize(ODD_TEXTS)
        assert sum(map(len, expected)) > 5
        for row, entities in enumerate(expected):
            assert given["counts"][row] == len(entities)
            for at, entity in enumerate(entities):
                assert given["starts"][row, at] == entity["start"]
                assert given["ends"][row, at] == entity["end"]
                assert given["types"][row, at].decode() == entity["type"]
                assert given["texts"][row, at].decode() == entity["text"]
                assert given["scores"][row, at] == pytest.approx(
                    entity["score"], abs=1e-4
                )

    def test_relations(self, exported):
        task, signatures, _ = exported("relation_extractor")
        given = call(signatures["serving_default"], text=ODD_TEXTS)
        expected = task.extract(ODD_TEXTS)
        assert sum(map(len, expected)) > 5
        for row, relations in enumerate(expected):
            assert given["counts"][row] == len(relations)
            for at, relation in enumerate(relations):
                for part in ("subject", "object"):
                    span = relation[f"{part}_span"]
                    assert given[f"{part}_starts"][row, at] == span[0]
                    assert given[f"{part}_ends"][row, at] == span[1]
                    assert given[f"{part}s"][row, at].decode() == relation[part]
                assert given["predicates"][row, at].decode() == relation["predicate"]

    def test_tags(self, exported):
        task, signatures, _ = exported("token_classifier")
        given = call(signatures["serving_default"], text=ODD_TEXTS)
        tags, entities = task.tag(ODD_TEXTS), task.recognize(ODD_TEXTS)
        assert sum(map(len, entities)) > 3
        for row, text in enumerate(ODD_TEXTS):
            for at, start in enumerate(given["starts"][row].tolist()):
                said = given["tags"][row, at].decode()
                assert said == ("" if start < 0 else tags[row][start])
            assert given["counts"][row] == len(entities[row])
            for at, (start, end, kind) in enumerate(entities[row]):
                assert given["entity_starts"][row, at] == start
                assert given["entity_ends"][row, at] == end
                assert given["entity_types"][row, at].decode() == kind
                assert given["entity_texts"][row, at].decode() == text[start:end]

    def test_choices(self, exported):
        task, signatures, _ = exported("multiple_choice")
        texts, choices = EXAMPLES["multiple_choice"].x
        width = max(map(len, choices))
        table = [[*each, *[""] * (width - len(each))] for each in choices]
        given = call(signatures["serving_default"], text=texts, choices=table)
        for row, (choice, probability) in enumerate(task.choose(texts, choices)):
            assert given["choice"][row].decode() == choice
            assert given["probability"][row] == pytest.approx(probability, abs=1e-5)
            assert choices[row][given["number"][row]] == choice

    def test_blanks(self, exported):
        task, signatures, _ = exported("masked_lm")
        texts = ["[MASK]在山", "人[MASK][MASK]", "天地", "[MASK]"]
        given = call(signatures["serving_default"], text=texts)
        assert given["counts"].tolist() == [1, 2, 0, 1]
        for row, text in enumerate(texts):
            blanks = task.fill(text) if "[MASK]" in text else []
            for at, best in enumerate(blanks):
                assert strings(given["tokens"][row, at]) == [token for token, _ in best]
                np.testing.assert_allclose(
                    given["probabilities"][row, at], [p for _, p in best], atol=1e-5
                )
        nothing = call(signatures["serving_default"], text=["天地"])
        assert nothing["tokens"].shape == (1, 0, 5)

    def test_answers(self, tmp_path):
        from bert4keras3.tasks.question_answering import QuestionAnswering
        from bert4keras3.tasks.question_answering_preprocessor import (
            QuestionAnsweringPreprocessor,
        )

        words = tokenizer(CHARACTERS)
        keras.utils.set_random_seed(5)
        preprocessor = QuestionAnsweringPreprocessor(words, 16, 4, 6)
        task = QuestionAnswering(backbone(words.vocabulary_size), preprocessor)
        for variable in task.trainable_variables:
            variable.assign(np.random.default_rng(1).normal(0, 0.5, variable.shape))
        export_saved_model(task, tmp_path / "1")
        draw = np.random.default_rng(0)
        passages = [
            "".join(draw.choice([*CHARACTERS, " "], size))
            for size in (0, 1, 7, 8, 9, 13, 20, 40, 41, 60)
        ]
        questions = ["几个人"[: n % 4] * (1 + n) for n in range(len(passages))]
        given = call(
            served(tmp_path / "1")["serving_default"],
            question=questions,
            passage=passages,
        )
        expected = task.answer(questions, passages)
        assert len({each["text"] for each in expected}) > 4
        for row, answer in enumerate(expected):
            assert given["answer"][row].decode() == answer["text"]
            assert given["start"][row] == answer["start"]
            assert given["end"][row] == answer["end"]
            assert given["score"][row] == pytest.approx(answer["score"], abs=1e-5)


def test_a_backbone_with_and_without_a_tokenizer(tmp_path):
    words = tokenizer(CHARACTERS)
    model = backbone(words.vocabulary_size)
    bare = served(export_saved_model(model, tmp_path / "bare" / "1"))
    assert set(bare) == {"tokenized", "serving_default"}
    signatures = served(
        export_saved_model(model, tmp_path / "1", tokenizer=words, pairs=True)
    )
    given = call(signatures["serving_default"], text=TEXTS, pair=TEXTS[::-1])
    expected = model(words(TEXTS, TEXTS[::-1])).numpy()
    mask = given["padding_mask"].astype(bool)
    np.testing.assert_allclose(given["hidden_states"][mask], expected[mask], atol=1e-5)


def test_each_weight_and_table_is_stored_once(exported):
    task, _, folder = exported("text_classifier")
    stored = sum(path.stat().st_size for path in (folder / "variables").iterdir())
    weights = sum(int(np.prod(v.shape)) * 4 for v in task.weights)
    # The tables of the tokenizer, whatever the vocabulary.
    assert stored < weights + 1_200_000
    assert (folder / "saved_model.pb").stat().st_size < 3_000_000


@pytest.mark.parametrize("name", TASKS)
def test_core_operations_alone(exported, name):
    """TF Serving, the C API and tfjs link these, and no Python is called."""
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    _, _, folder = exported(name)
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    (graph,) = saved.meta_graphs
    functions = graph.graph_def.library.function
    nodes = [*graph.graph_def.node, *(n for f in functions for n in f.node_def)]
    called = {function.signature.name for function in functions}
    operations = {node.op for node in nodes} - called
    assert len(operations) > 50
    # Operations with an underscore are put in by the runtime itself.
    assert {name for name in operations if name[0] != "_"} <= set(dir(tf.raw_ops))
    assert not [name for name in operations if "PyFunc" in name or "Xla" in name]
    compiled = [f for f in functions if f.attr["_XlaMustCompile"].b]
    assert not compiled


def test_a_moved_folder_answers_alike(exported, tmp_path):
    _, signatures, folder = exported("text_classifier")
    moved = tmp_path / "elsewhere" / "7"
    shutil.copytree(folder, moved)
    given = call(served(moved)["serving_default"], text=TEXTS)
    expected = call(signatures["serving_default"], text=TEXTS)
    np.testing.assert_array_equal(given["logits"], expected["logits"])


class TestBadInput:
    def test_an_existing_version_is_not_overwritten(self, exported):
        task, _, folder = exported("text_classifier")
        before = sorted(folder.rglob("*"))
        with pytest.raises(FileExistsError, match=r"for example .*2\."):
            export_saved_model(task, folder)
        assert sorted(folder.rglob("*")) == before

    def test_what_fails_leaves_nothing(self, monkeypatch, tmp_path):
        def full_disk(*arguments, **options):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("json.dumps", full_disk)
        with pytest.raises(OSError, match="No space left"):
            export_saved_model(small_task("text_classifier"), tmp_path / "tnews" / "1")
        assert os.listdir(tmp_path / "tnews") == []

    def test_odd_batches(self, exported):
        import tensorflow as tf

        _, signatures, _ = exported("text_classifier")
        empty = signatures["serving_default"](text=tf.zeros([0], "string"))
        assert empty["logits"].shape == (0, 2)
        broken = call(signatures["serving_default"], text=[b"\xff\xfe", b"\x00", b""])
        assert np.isfinite(broken["logits"]).all()
        long = call(signatures["serving_default"], text=["人" * 300_000])
        assert np.isfinite(long["logits"]).all()
        many = call(signatures["serving_default"], text=["人在山"] * 10_000)
        assert len(many["label"]) == 10_000

    def test_ids_out_of_range(self, exported):
        import tensorflow as tf

        task, signatures, _ = exported("text_classifier")
        columns = {
            name: np.zeros((1, 4), "int32")
            for name in ("token_ids", "segment_ids", "padding_mask")
        }
        for name, wrong in (
            ("token_ids", task.backbone.vocabulary_size),
            ("token_ids", -1),
            ("segment_ids", 2),
        ):
            bad = {**columns, name: np.full((1, 4), wrong, "int32")}
            with pytest.raises(tf.errors.InvalidArgumentError):
                call(signatures["tokenized"], **bad)
