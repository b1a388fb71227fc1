"""A small corpus of words with spaces, and what its records hold."""

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


def build(sources, folder, length=12, **options):
    options = {**OPTIONS, "processes": 1, "progress": False, **options}
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
