"""What the scripts of `examples/clue` share: files, errors, resuming, the table."""

import importlib
import json
import sys
from pathlib import Path

import keras
import pytest

CLUE = Path(__file__).parents[2] / "examples" / "clue"
TASKS = "iflytek tnews afqmc cmnli ocnli wsc csl cmrc2018 c3 chid cluener".split()


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(CLUE))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if (
            getattr(sys.modules[name], "__file__", None)
            and CLUE == Path(sys.modules[name].__file__).parent
        ):
            del sys.modules[name]


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_there_is_a_script_for_each_task_of_the_published_table(script):
    from zoo.scores import GAU_ALPHA_POST

    assert tuple(TASKS) == GAU_ALPHA_POST.tasks
    for task in TASKS:
        assert script(task).RECIPE.task == task


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no record"),
        ('{"sentence": "好"}\n{"sentence"\n', "train.json, line 2: no JSON"),
        ('{"text": "好"}\n', "line 1: no field 'sentence'. There are: text"),
        ('{"sentence": 3}\n', "line 1: 'sentence' must be a str, received 3"),
        ("[1]\n", "line 1: expected a JSON object"),
        ('{"sentence": "好", "label": "105"}\n', "record 1: label '105' is none of"),
    ],
)
def test_a_file_that_is_wrong_is_named_with_its_line(script, tmp_path, text, message):
    write(tmp_path / "train.json", text)
    with pytest.raises(ValueError, match=r"train\.json") as caught:
        script("tnews").load_data(tmp_path, "train")
    assert message in str(caught.value)


def test_line_separators_inside_a_text_end_no_line(script, tmp_path):
    record = json.dumps(
        {"sentence": "前\u2028后😀", "label": "103"}, ensure_ascii=False
    )
    write(tmp_path / "train.json", record + "\n\n" + record + "\n")
    data = script("tnews").load_data(tmp_path, "train")
    assert data.x == ["前\u2028后😀"] * 2 and data.y == ["103"] * 2


def test_files_are_found_in_the_folder_or_beside_their_task(script, tmp_path):
    find = script("records").find_folder
    with pytest.raises(FileNotFoundError, match=r"download\.py --tasks wsc"):
        find(tmp_path, "wsc")
    (tmp_path / "cluewsc2020_public").mkdir()
    write(tmp_path / "cluewsc2020_public" / "train.json", "{}")
    assert find(tmp_path, "wsc").name == "cluewsc2020_public"
    assert find(tmp_path / "cluewsc2020_public", "wsc").name == "cluewsc2020_public"


def test_a_limit_draws_from_a_file_sorted_by_label(script):
    numbers = list(range(100))
    words = [str(number) for number in numbers]
    split = script("records").Examples((words, words), numbers, words)
    drawn, again = split.sample(20), split.sample(20)
    assert drawn.y == again.y and len(set(drawn.y)) == len(drawn) == 20
    assert min(drawn.y) < 25 and max(drawn.y) > 75
    assert drawn.x == (drawn.records, drawn.records)
    assert drawn.records == [str(number) for number in drawn.y]


def test_pairs_without_agreed_label_are_skipped(script, tmp_path):
    lines = [
        json.dumps({"sentence1": "a", "sentence2": "b", "label": label})
        for label in ("-", "neutral")
    ]
    write(tmp_path / "train.50k.json", "\n".join(lines))
    write(tmp_path / "train.10k.json", "\n".join(lines[:1]))
    assert script("ocnli").load_data(tmp_path, "train").y == ["neutral"]


def test_wsc_marks_both_spans_in_any_order(script):
    target = {"span1_index": 3, "span1_text": "他"}
    target |= {"span2_index": 0, "span2_text": "小明"}
    assert script("wsc").marked("小明说他饿", target) == "[[小明]]说[[他]]饿"


def test_chid_keeps_what_is_near_the_blank(script):
    chid = script("chid")
    text = "前" * 80 + "#idiom000001#" + "后" * 10 + "#idiom000002#" + "末" * 50
    first, second = chid.BLANK.finditer(text)
    before, after = chid.around(text, first)
    assert len(before) + len(after) == chid.CONTEXT
    assert before == "前" * 28 and after.startswith("后" * 10 + "_____末")
    short = chid.around("一#idiom000001#二", chid.BLANK.search("一#idiom000001#二"))
    assert short == ("一", "二")
    before, after = chid.around("前" * 80 + "#idiom000001#后", first)
    assert (len(before), after) == (chid.CONTEXT - 1, "后")


def test_blanks_of_one_record_get_different_idioms(script, monkeypatch):
    import numpy as np

    chid = script("chid")
    logits = np.array([[5.0, 4.0, 0.0], [9.0, 0.0, 0.0], [1.0, 0.0, 2.0]])
    monkeypatch.setattr(chid, "choice_logits", lambda *_: logits)
    examples = script("records").Examples(
        ([], []), None, [(1, "#idiom1#"), (1, "#idiom2#"), (2, "#idiom3#")]
    )
    assert chid.predict(None, examples, None) == [1, 0, 2]


def test_cluener_refuses_words_that_do_not_stand_where_they_should(script, tmp_path):
    record = {"text": "张三来了", "label": {"name": {"张三": [[1, 2]]}}}
    write(tmp_path / "train.json", json.dumps(record, ensure_ascii=False))
    with pytest.raises(ValueError, match="record 1: '张三' does not stand at 1 to 2"):
        script("cluener").load_data(tmp_path, "train")


def test_cluener_writes_what_it_reads(script):
    cluener = script("cluener")
    for record in cluener.SMOKE:
        entities = cluener.entities_of(record, "here")
        assert cluener.as_label(record["text"], entities) == record["label"]


class Killed(BaseException):
    pass


def test_a_killed_run_goes_on_and_keeps_the_best_epoch(script, tmp_path, monkeypatch):
    tnews, fine_tune = script("tnews"), script("fine_tune")
    arguments = ["--smoke", "--output", str(tmp_path / "run")]
    figures = iter([30.0, 50.0, 40.0])
    monkeypatch.setattr(tnews, "score", lambda *_: {"accuracy": next(figures)})
    save = keras.callbacks.BackupAndRestore._save_model

    def save_and_die(self):
        save(self)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(keras.callbacks.BackupAndRestore, "_save_model", save_and_die)
        with pytest.raises(Killed):
            fine_tune.fine_tune(tnews, arguments)
    assert not (tmp_path / "run" / "results.json").exists()
    with pytest.raises(ValueError, match="holds a run with seed=0 "):
        fine_tune.fine_tune(tnews, [*arguments, "--seed", "1"])
    results = fine_tune.fine_tune(tnews, arguments)
    assert results["score"] == 50.0 and results["best"]["epoch"] == 2
    log = (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line)["epoch"] for line in log.splitlines()] == [1, 2]
    kept = {path.name for path in (tmp_path / "run").iterdir()}
    assert kept >= {"model.keras", "results.json", "tnews11_predict.json"}
    assert not [name for name in kept if "partial" in name]


def test_the_table_marks_samples_and_shows_the_spread(script, capsys):
    table = script("table")
    full = {"full_train": True, "full_dev": True}
    assert table.cell([{"score": 50.0, **full}, {"score": 60.0, **full}]) == (
        "55.00 (50.00 - 60.00)"
    )
    assert table.cell([{"score": 50.0, **full, "full_dev": False}, None]) == "50.00\\*"
    assert table.cell([None]) == "-"
    table.print_table(["tnews"], {"mine": {"tnews": "55.00"}})
    printed = capsys.readouterr().out
    assert "| GAU-α | 57.76 |" in printed and "| **mine** | 55.00 |" in printed


def test_without_a_network_the_downloader_says_where_zips_belong(
    script, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("BERT4KERAS3_OFFLINE", "1")
    assert script("download").main(["--data", str(tmp_path), "--tasks", "wsc"]) == 1
    printed = capsys.readouterr().out
    assert "cluewsc2020_public.zip by other means" in printed
    assert str(tmp_path / "wsc") in printed
