"""zoo.load and zoo.load_tokenizer: names, paths, overrides, strictness."""

import json
import shutil
import warnings
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from contract import to_numpy

import zoo
from zoo.catalogue import UnknownModelError
from zoo.checkpoints import CheckpointError, open_checkpoint, write_tf1
from zoo.checksums import ChecksumError, record_checksums
from zoo.presets import PRESETS
from zoo.released_config import ConfigError

GOLDEN = Path(__file__).parents[1] / "golden"
MODELS = GOLDEN / "models"
CASES = ["gau_alpha", "roformer", "roformer_v2"]


@pytest.fixture
def copy(tmp_path):
    """A copy of a released folder that a test may damage."""

    def make(case, name=None):
        folder = tmp_path / (name or case)
        shutil.copytree(MODELS / case, folder)
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        return folder

    return make


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BERT4KERAS3_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("BERT4KERAS3_OFFLINE", "1")
    return tmp_path / "cache"


def values(model):
    ops = keras.ops
    return {
        w.path: ops.convert_to_numpy(ops.convert_to_tensor(w)) for w in model.weights
    }


def assert_equal(one, other):
    one, other = values(one), values(other)
    assert one.keys() == other.keys()
    for path in one:
        np.testing.assert_array_equal(one[path], other[path])


def rewrite(folder, change):
    """Write the TF1 checkpoint of a folder again with changed variables."""
    with open_checkpoint(folder) as checkpoint:
        variables = dict(checkpoint.items())
    change(variables)
    write_tf1(folder / "bert_model.ckpt", variables)


class TestSources:
    @pytest.mark.parametrize("case", CASES)
    def test_folder_zip_prefix_and_index_are_the_same(self, case, cache, tmp_path):
        folder = MODELS / case
        model = zoo.load(folder)
        with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
            for path in folder.iterdir():
                if path.is_file():
                    archive.write(path, f"nested/{path.name}")
        assert_equal(model, zoo.load(tmp_path / "model.zip"))
        assert_equal(model, zoo.load(tmp_path / "model.zip"))  # from the cache
        assert_equal(model, zoo.load(str(folder / "bert_model.ckpt")))
        assert_equal(model, zoo.load(folder / "bert_model.ckpt.index"))

    def test_every_variable_equals_the_fixture(self):
        for case in CASES:
            model = zoo.load(MODELS / case, task="masked_lm", preprocessor=None)
            total = sum(array.size for array in values(model).values())
            with np.load(MODELS / case / "variables.npz") as stored:
                assert total == sum(stored[name].size for name in stored.files)

    def test_weights_of_one_folder_into_another_model(self):
        mirror = MODELS / "gau_alpha/mirror/pytorch_model.bin"
        assert_equal(
            zoo.load(MODELS / "gau_alpha", weights=mirror),
            zoo.load(MODELS / "gau_alpha"),
        )

    def test_a_placed_release_is_found_by_name(self, cache, copy):
        """A name, a folder and a zip of the cache; sizes of the row must fit."""
        name = PRESETS["roformer-sim-small"].archive
        folder = copy("roformer_sim", name)
        with pytest.raises(ConfigError, match="num_layers is 6.*have 2"):
            zoo.load(folder)

    def test_checksums_are_checked_at_every_load(self, copy):
        folder = copy("roformer_v2")
        record_checksums(folder)
        zoo.load(folder)
        data = folder / "bert_model.ckpt.data-00000-of-00001"
        raw = bytearray(data.read_bytes())
        raw[1000] ^= 1
        data.write_bytes(raw)
        with pytest.raises(ChecksumError, match="bert_model.ckpt.data"):
            zoo.load(folder)

    def test_unknown_name_suggests_the_near_one(self):
        with pytest.raises(UnknownModelError, match="gau-alpha"):
            zoo.load("gau-alfa")

    def test_missing_path(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="nothing at"):
            zoo.load(tmp_path / "nowhere")
        with pytest.raises(FileNotFoundError, match="nothing at"):
            zoo.load("some/where")

    def test_without_network_the_hand_placement_is_explained(self, cache):
        with pytest.raises(FileNotFoundError, match="chinese_GAU-alpha-char_L-24"):
            zoo.load("gau-alpha")

    def test_empty_folder(self, tmp_path):
        with pytest.raises(CheckpointError):
            zoo.load(tmp_path)


class TestRandomWeights:
    def test_overrides_choose_sizes(self):
        model = zoo.load("gau-alpha", weights=None, num_layers=2, hidden_dim=32)
        assert (model.num_layers, model.hidden_dim, model.key_dim) == (2, 32, 128)

    def test_of_a_folder(self):
        model = zoo.load(MODELS / "roformer", weights=None, num_layers=1)
        assert model.num_layers == 1
        kernels = [a for p, a in values(model).items() if p.endswith("kernel")]
        assert all(np.abs(kernel).max() > 0 for kernel in kernels)

    def test_every_preset_builds(self):
        assert len(PRESETS) >= 16
        for name, preset in PRESETS.items():
            small = {"num_layers": 1, "hidden_dim": 24, "intermediate_dim": 8}
            if "num_heads" in preset.config:
                small["num_heads"] = 2
            model = zoo.load(name, weights=None, vocabulary_size=64, **small)
            assert type(model) is preset.backbone_class()
            assert model.attention == preset.config.get("attention", "bidirectional")


class TestOverrides:
    def test_unknown_override_names_the_near_one(self):
        with pytest.raises(TypeError, match="num_layers"):
            zoo.load("gau-alpha", weights=None, num_layer=2)

    def test_size_at_odds_with_the_weights(self):
        with pytest.raises(CheckpointError, match="hidden_dim|shape"):
            zoo.load(MODELS / "gau_alpha", hidden_dim=32)
        with pytest.raises(CheckpointError, match="lacks"):
            zoo.load(MODELS / "gau_alpha", num_layers=3)
        with pytest.raises(CheckpointError, match="num_layers"):
            zoo.load(MODELS / "gau_alpha", num_layers=1)

    def test_sizes_must_be_positive(self):
        with pytest.raises(ConfigError, match="num_layers must be a positive"):
            zoo.load("gau-alpha", weights=None, num_layers=0)

    def test_dtype(self):
        model = zoo.load(MODELS / "roformer_v2", dtype="bfloat16")
        assert {w.dtype for w in model.weights} == {"bfloat16"}
        assert model.get_config()["dtype"]

    def test_task_and_preprocessor_arguments_find_their_way(self):
        lm = zoo.load(
            MODELS / "gau_alpha", task="masked_lm", sequence_length=16, dropout=0.3
        )
        assert lm.preprocessor.sequence_length == 16
        assert lm.backbone.dropout == 0.3
        assert lm.tokenizer.zero_segments

    def test_preprocessor_none_takes_ids_only(self):
        lm = zoo.load(MODELS / "gau_alpha", task="masked_lm", preprocessor=None)
        assert lm.preprocessor is None

    def test_unknown_task(self):
        with pytest.raises(ValueError, match="masked_lm"):
            zoo.load(MODELS / "gau_alpha", task="masked_lms")


class TestVocabulary:
    def test_keep_tokens_cuts_embedding_and_bias(self):
        keep = [0, 100, 101, 102, 103, 200, 7]
        small = zoo.load(
            MODELS / "roformer", task="masked_lm", preprocessor=None, keep_tokens=keep
        )
        whole = zoo.load(MODELS / "roformer", task="masked_lm", preprocessor=None)
        for path in ("token_embedding/embeddings", "masked_lm_head/output_bias"):
            np.testing.assert_array_equal(
                values(small)[path], values(whole)[path][keep]
            )
        assert small.backbone.vocabulary_size == 7

    @pytest.mark.parametrize(
        "arguments,message",
        [
            ({"keep_tokens": [0, 300]}, "300"),
            ({"keep_tokens": [0, -1]}, "-1"),
            ({"keep_tokens": [0, 0]}, "twice"),
            ({"keep_tokens": [0, 1], "compound_tokens": [[2]]}, "compound_tokens"),
            ({"compound_tokens": [[]]}, "at least one"),
            ({"compound_tokens": [([1, 2], [0.5])]}, "one weight per id"),
        ],
    )
    def test_bad_ids(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            zoo.load(MODELS / "roformer", **arguments)

    def test_simplified_tokenizer_fits_the_cut_model(self):
        tokenizer = zoo.load_tokenizer(MODELS / "gau_alpha", simplified=True)
        model = zoo.load(MODELS / "gau_alpha", keep_tokens=tokenizer.keep_tokens)
        assert model.vocabulary_size == tokenizer.vocabulary_size

    def test_vocabulary_of_another_size_is_refused(self, copy):
        folder = copy("gau_alpha")
        lines = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
        (folder / "vocab.txt").write_text("\n".join(lines[:-5]), encoding="utf-8")
        with pytest.raises(ConfigError, match="tokens.*300 rows"):
            zoo.load(folder)

    def test_a_folder_without_vocabulary_is_a_model_still(self, copy):
        folder = copy("gau_alpha")
        (folder / "vocab.txt").unlink()
        zoo.load(folder)
        assert zoo.load(folder, task="masked_lm").preprocessor is None
        with pytest.raises(FileNotFoundError, match="vocab.txt"):
            zoo.load_tokenizer(folder)
        with pytest.raises(FileNotFoundError, match="sequence_length"):
            zoo.load(folder, task="masked_lm", sequence_length=8)

    def test_word_level_vocabulary_is_cut_by_jieba_first(self, tmp_path):
        special = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n"
        words = "服\n装\n饰\n品\n服装\n饰品\n"
        (tmp_path / "vocab.txt").write_text(special + words, encoding="utf-8")
        tokenizer = zoo.load_tokenizer(tmp_path)
        assert tokenizer.tokenize("服装饰品")[1:-1] == ["服装", "饰品"]

    def test_character_vocabulary_is_not(self):
        assert zoo.load_tokenizer(MODELS / "gau_alpha").pre_tokenize is None


class TestStrictness:
    @pytest.mark.parametrize("case", CASES)
    @pytest.mark.parametrize("other", [*CASES, "bert"])
    def test_weights_of_another_architecture(self, case, other):
        preset = {
            "gau_alpha": "gau-alpha",
            "roformer": "roformer-char-small",
            "roformer_v2": "roformer-v2-small",
            "bert": "bert-base-chinese",
        }[other]
        expected = ConfigError if case == other else CheckpointError
        message = "different models" if case == other else f"holds weights of '{case}'"
        with pytest.raises(expected, match=message):
            zoo.load(preset, weights=MODELS / case)

    def test_a_variable_nobody_knows(self, copy):
        folder = copy("roformer_v2")
        rewrite(folder, lambda v: v.update({"bert/strange": np.zeros(3, "float32")}))
        with pytest.raises(CheckpointError, match=r"\+ bert/strange"):
            zoo.load(folder)

    def test_a_missing_variable(self, copy):
        folder = copy("gau_alpha")
        name = "GAU_alpha/encoder/layer_1/gau/o_dense/kernel"
        rewrite(folder, lambda v: v.pop(name))
        with pytest.raises(CheckpointError, match=f"- {name}"):
            zoo.load(folder)

    def test_a_wrong_shape(self, copy):
        folder = copy("gau_alpha")
        name = "GAU_alpha/encoder/layer_1/gau/o_dense/kernel"
        rewrite(folder, lambda v: v.update({name: v[name][:-1]}))
        with pytest.raises(CheckpointError, match=r"\(127, 64\).*\(128, 64\)"):
            zoo.load(folder)

    def test_a_transposed_kernel_that_is_not_square(self, copy):
        folder = copy("roformer")
        name = "bert/encoder/layer_0/intermediate/dense/kernel"
        rewrite(folder, lambda v: v.update({name: v[name].T}))
        with pytest.raises((CheckpointError, ConfigError)):
            zoo.load(folder)

    def test_pooler_must_be_in_the_checkpoint(self):
        with pytest.raises(CheckpointError, match="bert/pooler/dense/kernel"):
            zoo.load(MODELS / "roformer", pooler="tanh")

    def test_truncated_part(self, copy):
        folder = copy("roformer")
        data = folder / "bert_model.ckpt.data-00000-of-00001"
        data.write_bytes(data.read_bytes()[:-100])
        with pytest.raises(CheckpointError, match="data-00000"):
            zoo.load(folder)

    def test_missing_part(self, copy):
        folder = copy("roformer")
        (folder / "bert_model.ckpt.data-00000-of-00001").unlink()
        with pytest.raises(CheckpointError, match="data-00000"):
            zoo.load(folder)

    def test_the_stale_checkpoint_file_is_never_followed(self, copy):
        folder = copy("roformer")
        assert "/root/kg" in (folder / "checkpoint").read_text()
        zoo.load(folder)

    def test_optimizer_slots_are_dropped(self):
        assert_equal(
            zoo.load(MODELS / "roformer"), zoo.load(MODELS / "roformer_extra_variables")
        )

    def test_the_order_of_variables_does_not_matter(self, tmp_path, copy):
        from zoo.checkpoints import write_safetensors

        folder = copy("gau_alpha")
        with open_checkpoint(folder) as checkpoint:
            variables = dict(checkpoint.items())
        names = sorted(variables, reverse=True)
        for path in folder.glob("bert_model*"):
            path.unlink()
        write_safetensors(
            folder / "model.safetensors", {name: variables[name] for name in names}
        )
        assert_equal(zoo.load(folder), zoo.load(MODELS / "gau_alpha"))


class TestConfig:
    def change(self, folder, **changes):
        path = folder / "bert_config.json"
        config = json.loads(path.read_text())
        config.update(changes)
        path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))

    def test_sizes_at_odds_with_the_weights(self, copy):
        folder = copy("roformer")
        self.change(folder, hidden_size=128)
        with pytest.raises(ConfigError, match="hidden_dim is 128.*have 64"):
            zoo.load(folder)

    def test_heads_that_do_not_divide(self, copy):
        folder = copy("roformer")
        self.change(folder, num_attention_heads=7)
        with pytest.raises(ConfigError, match="num_heads=7"):
            zoo.load(folder)

    def test_heads_are_not_guessed(self, copy):
        folder = copy("roformer_v2")
        (folder / "bert_config.json").unlink()
        with pytest.raises(ConfigError, match="bert_config.json"):
            zoo.load(folder)

    def test_gau_alpha_needs_no_config(self, copy):
        folder = copy("gau_alpha")
        (folder / "bert_config.json").unlink()
        assert_equal(zoo.load(folder), zoo.load(MODELS / "gau_alpha"))

    def test_unreadable_json(self, copy):
        folder = copy("gau_alpha")
        (folder / "bert_config.json").write_text("{")
        with pytest.raises(ConfigError, match="not valid JSON"):
            zoo.load(folder)

    def test_unknown_activation(self, copy):
        folder = copy("roformer")
        self.change(folder, hidden_act="gelu_new")
        with pytest.raises(ConfigError, match="gelu_new"):
            zoo.load(folder)


class TestOwnFormats:
    def test_keras_file(self, tmp_path):
        model = zoo.load(MODELS / "gau_alpha", task="masked_lm")
        zoo.save(model, tmp_path / "model.keras", format="keras")
        copy = zoo.load(tmp_path / "model.keras")
        assert_equal(model, copy)
        assert copy.preprocessor.tokenizer.vocabulary == model.tokenizer.vocabulary
        with pytest.raises(TypeError, match="task"):
            zoo.load(tmp_path / "model.keras", task="masked_lm")

    def test_weights_file(self, tmp_path):
        model = zoo.load(MODELS / "roformer_v2")
        model.save_weights(tmp_path / "x.weights.h5")
        sizes = {
            key: model.get_config()[key]
            for key in ("vocabulary_size", "num_layers", "num_heads", "hidden_dim")
        }
        copy = zoo.load(
            "roformer-v2-small",
            weights=tmp_path / "x.weights.h5",
            intermediate_dim=128,
            **sizes,
        )
        assert_equal(model, copy)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras warns before it raises
            with pytest.raises(ConfigError, match="does not fit"):
                zoo.load("roformer-v2-small", weights=tmp_path / "x.weights.h5")
        with pytest.raises(FileNotFoundError, match="no weights file"):
            zoo.load("roformer-v2-small", weights=tmp_path / "y.weights.h5")


def test_released_weights_take_schemes_of_other_models():
    """What no release holds keeps its start: URPE changes nothing, T5 is random."""
    token_ids = np.random.default_rng(0).integers(700, 9000, (2, 40))
    plain = zoo.load("gau-alpha-tiny")
    expected = to_numpy(plain({"token_ids": token_ids}))
    urpe = zoo.load("gau-alpha-tiny", position_weighting="urpe")
    given = to_numpy(urpe({"token_ids": token_ids}))
    np.testing.assert_allclose(given, expected, atol=1e-5)
    for name, change in (("t5", 1e-3), ("shaw", 1e-3)):
        model = zoo.load("gau-alpha-tiny", position_bias=name)
        assert model.scheme_weights
        for weight in model.weights:
            assert np.abs(to_numpy(weight.value)).max() > 0, weight.path
        changed = to_numpy(model({"token_ids": token_ids}))
        assert np.abs(changed - expected).max() > change
    xl = zoo.load("gau-alpha-tiny", position_bias="transformer_xl")
    assert len(xl.scheme_weights) == 3
    for weight in xl.weights:
        if weight.path in xl.scheme_weights:  # u and v start at zero
            is_zero = not np.any(to_numpy(weight.value))
            assert is_zero == weight.path.endswith("bias"), weight.path
    assert np.abs(to_numpy(xl({"token_ids": token_ids})) - expected).max() > 1e-3
    # Within the reach that a scheme leaves alone, it changes nothing.
    same = zoo.load("gau-alpha-tiny", rotary_embedding="rerope")
    np.testing.assert_allclose(
        to_numpy(same({"token_ids": token_ids})), expected, atol=1e-4
    )
