"""MultipleChoice: choices as rows, training, answers, saving."""

import keras
import numpy as np
import pytest
from small_tasks import QUICK_JIT, backbone

from bert4keras3.tasks.multiple_choice import MultipleChoice
from bert4keras3.tasks.multiple_choice_preprocessor import MultipleChoicePreprocessor
from bert4keras3.text import Tokenizer

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"好坏天气很不我们"]
TEXTS = ["天气很好", "我们很坏", "好天气", "坏天气", "我们不坏", "不好"]


def chooser(**arguments):
    preprocessor = MultipleChoicePreprocessor(Tokenizer(VOCABULARY), 12, **arguments)
    return MultipleChoice(backbone(len(VOCABULARY)), preprocessor)


def test_choices_are_compared_within_their_text():
    model = chooser(num_choices=4)
    texts, choices = ["天气", "我们"], [["好", "坏"], ["很好", "不坏", "不好"]]
    logits = model.predict((texts, choices), verbose=0)
    assert logits.shape == (2, 4)
    assert np.array_equal(logits < -1e8, [[0, 0, 1, 1], [0, 0, 0, 1]])
    alone = chooser(num_choices=4)
    alone.set_weights(model.get_weights())
    single = alone.predict((texts[:1], choices[:1]), verbose=0)
    np.testing.assert_allclose(single[0, :2], logits[0, :2], atol=1e-5)
    # Its inputs are those of the pair.
    inputs = model.preprocessor(texts, choices, inputs_only=True)
    pair = model.tokenizer(["我们"], ["不坏"], length=12)
    for name, array in pair.items():
        assert np.array_equal(inputs[name][1, 1], array[0])


def test_choices_may_have_several_parts():
    preprocessor = MultipleChoicePreprocessor(Tokenizer(VOCABULARY), 12)
    inputs = preprocessor(["好"], [[("天", "气"), ("很", "我们")]])
    assert inputs["token_ids"][0, 0, :7].tolist() == [2, 5, 3, 7, 3, 8, 3]
    assert inputs["token_ids"][0, 1, :8].tolist() == [2, 5, 3, 9, 3, 11, 12, 3]


def test_learns_the_right_choice_and_is_saved(tmp_path):
    model = chooser(num_choices=3)
    model.compile(keras.optimizers.Adam(1e-2), jit_compile=QUICK_JIT)
    choices = [["好", "坏", "不"], ["坏", "好"]] * 3
    history = model.fit((TEXTS, choices), [0, 1] * 3, epochs=40, verbose=0)
    assert history.history["loss"][-1] < 0.1 < history.history["loss"][0]
    assert [choice for choice, _ in model.choose(TEXTS, choices)] == ["好"] * 6
    choice, share = model.choose(TEXTS[0], ["坏", "好"])
    assert choice == "好" and 0.5 < share <= 1
    model.save(tmp_path / "task.keras")
    loaded = keras.saving.load_model(tmp_path / "task.keras")
    again = loaded.choose(TEXTS[0], ["坏", "好"])
    assert again == (choice, pytest.approx(share, abs=1e-5))
    assert loaded.preprocessor.num_choices == 3


def test_a_long_text_gives_way_to_its_choices():
    made = chooser(truncate_from="left").preprocessor
    ids = made(["天气" * 9], [["很好", "不"]])["token_ids"]
    kept = made.tokenizer(["天气" * 9], ["很好"], length=12, truncate_from="left")
    assert np.array_equal(ids[0, 0], kept["token_ids"][0])
    assert ids[0, 0, -4:].tolist() == [3, 9, 5, 3]  # [SEP] 很 好 [SEP]


@pytest.mark.parametrize(
    "texts, choices, labels, match",
    [
        (["天"], [["好"]], None, "two choices or more"),
        (["天"], ["好坏"], None, "two choices or more"),
        (["天"], [["好", "坏", "不"]], None, "has 3 choices, but num_choices=2"),
        (["天"], [["好", "坏"]], [2], "right choice is 2, but there are 2"),
        (["天"], None, None, "choices of each"),
    ],
)
def test_bad_choices_are_refused(texts, choices, labels, match):
    preprocessor = MultipleChoicePreprocessor(Tokenizer(VOCABULARY), num_choices=2)
    with pytest.raises(ValueError, match=match):
        preprocessor(texts, choices, labels)
