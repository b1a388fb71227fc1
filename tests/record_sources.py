"""A small corpus of words with spaces, and what its records hold."""

import gzip
import json
from pathlib import Path

import numpy as np

from bert4keras3.text.tokenizer import Tokenizer
from bert4keras3.training.build_records import build_records
from bert4keras3.training.record_manifest import Manifest
from bert4keras3.training.record_rows import NAMES

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TOKENIZER = Tokenizer([*SPECIAL, *"今天气很好我们去公园散步明下雨大家在里看书。，"])
WORDS = ["今天", "天气", "很", "好", "我们", "去", "公园", "散步", "下雨", "看书", "。"]
OPTIONS = dict(segmenter="spaces", block_characters=400, document_length=50)


def text(number, seed=0):
    """So many lines of words with spaces, a sentence each."""
    random = np.random.default_rng(seed)
    lines = (
        [*random.choice(WORDS[:-1], random.integers(1, 9)), "。"] for _ in range(number)
    )
    return "\n".join(" ".join(line) for line in lines)


def small_corpus(folder):
    """Plain text, gzip and JSON lines; the last is many small files."""
    (folder / "small").mkdir(parents=True)
    (folder / "a.txt").write_text(text(60), encoding="utf-8")
    with gzip.open(folder / "b.txt.gz", "wt", encoding="utf-8") as stream:
        stream.write(text(60, seed=1))
    for number in range(8):
        lines = [json.dumps({"text": text(2, seed=number + line)}) for line in range(3)]
        path = folder / "small" / f"{number}.jsonl"
        path.write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    return folder


def build(sources, folder, length=12, **options):
    options = {**OPTIONS, "processes": 1, "show_progress": False, **options}
    return build_records(sources, folder, TOKENIZER, length, **options)


def rows_of(folder):
    """Every record of a folder, as tuples of lists, in the order of the files."""
    import tensorflow as tf

    rows, folder = [], Path(folder)
    for shard in Manifest.read(folder).shards:
        path = str(folder / shard.name)
        for record in tf.data.TFRecordDataset(path, "GZIP").as_numpy_iterator():
            features = tf.train.Example.FromString(record).features.feature
            rows.append(tuple(tuple(features[n].int64_list.value) for n in NAMES))
    return rows
