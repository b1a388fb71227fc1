"""The released models, one row of data each: what it is and where its weights are.

Configurations are the real numbers of the released `bert_config.json` files, in our
constructors' words. Sources of the addresses: the README files of the ZhuiyiTechnology
repositories roformer, roformer-sim, roformer-v2 and GAU-alpha, of google-research/bert
and of ymcui/Chinese-BERT-wwm. None of them publishes a checksum of an archive, so
`sha256` is None until somebody records one; the first download of a user is recorded
beside the file and checked ever after.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from zoo.preset import Mirror, Preset, Vocabulary

# --- shared pieces of the rows ------------------------------------------------------

CHARACTERS = Vocabulary(
    12000,
    "char",
    "722b0e17d2c0d35a835811967e74f1ec3203c885bade5cd523086594e3d0b29e",
)
WORDS = Vocabulary(
    50000,
    "word",
    "3c53a4f482e5fc3f7c865b9f9404fd2ccaead6f82b9b07481dac4ef9cac1bacd",
)
GOOGLE_CHINESE = Vocabulary(
    21128,
    "char",
    "45bbac6b341c319adc98a532532882e91a9cefc0329aa57bac9ae761c27b291c",
)

_SIZES = {
    "small": dict(num_layers=6, num_heads=6, hidden_dim=384, intermediate_dim=1536),
    "base": dict(num_layers=12, num_heads=12, hidden_dim=768, intermediate_dim=3072),
    "large": dict(num_layers=24, num_heads=16, hidden_dim=1024, intermediate_dim=4096),
}

_RELEASES = "https://open.zhuiyi.ai/releases/nlp/models/zhuiyi/"
_ROFORMER_PAPER = ("https://arxiv.org/abs/2104.09864", "https://kexue.fm/archives/8265")
_POOLER_UNKNOWN = (
    "Whether the released file holds a pooler is not known; ask for one with "
    'pooler="tanh" and loading says whether it was there.'
)


def _roformer(
    size: str,
    vocabulary: Vocabulary,
    *,
    attention: str = "bidirectional",
    pooler: str | None = None,
) -> dict[str, Any]:
    # bert4keras 0.11.5, the reference of our numbers, gives this class no epsilon of
    # its own, so Keras's 1e-7 applies; the PyTorch mirrors write 1e-12. On trained
    # activations the two differ by less than 1e-6.
    return dict(
        _SIZES[size],
        vocabulary_size=vocabulary.size,
        num_segments=2,
        activation="gelu",
        dropout=0.1,
        attention_dropout=0.1,
        attention=attention,
        pooler=pooler,
        epsilon=1e-7,
    )


def _bert() -> dict[str, Any]:
    return dict(
        _SIZES["base"],
        vocabulary_size=GOOGLE_CHINESE.size,
        num_segments=2,
        max_sequence_length=512,
        activation="gelu",
        dropout=0.1,
        attention_dropout=0.1,
        attention="bidirectional",
        pooler=None,
        epsilon=1e-12,
    )


def _zhuiyi(archive: str, baidu: str) -> dict[str, Any]:
    return dict(
        archive=archive,
        urls=(f"{_RELEASES}{archive}.zip",),
        manual=(baidu,),
        licence="Apache-2.0",
    )


def _junnyu(*names: str) -> tuple[Mirror, ...]:
    return tuple(Mirror(f"junnyu/{name}") for name in names)


def _baidu(path: str, code: str) -> str:
    return f"https://pan.baidu.com/s/{path} (extraction code {code})"


_GITHUB = "https://github.com/ZhuiyiTechnology/"


def _roformer_sim(
    name: str,
    size: str,
    release: Mapping[str, Any],
    *,
    mirror: str,
    supervised: bool = False,
) -> Preset:
    pretraining = (
        "UniLM generation of similar sentences with contrastive learning, BART-like "
        "noising and distillation from SimBERT, on similar questions and general "
        "similar sentences collected from the web"
    )
    posts: tuple[str, ...] = ("https://kexue.fm/archives/8454",)
    if supervised:
        pretraining += ", then human-labelled sentence pairs"
        posts += ("https://kexue.fm/archives/8541",)
    return Preset(
        name=name,
        architecture="roformer",
        config=_roformer(size, CHARACTERS, attention="prefix", pooler="linear"),
        vocabulary=CHARACTERS,
        **release,
        mirrors=_junnyu(mirror),
        homepage=_GITHUB + "roformer-sim",
        papers=posts,
        pretraining=pretraining,
        notes=(
            'A sentence vector is the L2-normalised "pooled" output; a generated '
            "sentence follows its prompt with segment ids 1 and ends with [SEP].",
        ),
    )


def _roformer_v2(
    size: str, release: Mapping[str, Any], *, supervised_steps: str
) -> Preset:
    return Preset(
        name=f"roformer-v2-{size}",
        architecture="roformer_v2",
        config=dict(
            _SIZES[size],
            vocabulary_size=CHARACTERS.size,
            num_segments=2,
            activation="relu",
            dropout=0.1,
            attention_dropout=0.1,
            attention="bidirectional",
        ),
        vocabulary=CHARACTERS,
        **release,
        mirrors=_junnyu(f"roformer_v2_chinese_char_{size}"),
        zero_segments=True,
        homepage=_GITHUB + "roformer-v2",
        papers=("https://kexue.fm/archives/8998",),
        pretraining=(
            "280 GB of text, whole-word masked LM, 1,000,000 steps of batch 512 at "
            "lengths up to 512, then 20 GB of labelled data (77 sets, 92 tasks), "
            f"{supervised_steps} steps"
        ),
        notes=(
            "Segment ids were zero throughout the training: row 1 of the segment "
            "embedding is all but untrained.",
            "The supervised stage saw training sets of CLUE: its published code names "
            "iflytek and tnews.",
        ),
    )


def _tiny(
    name: str,
    architecture: str,
    sizes: Mapping[str, Any],
    paper: str,
    notes: tuple[str, ...],
) -> Preset:
    """A model of this package; its figures come from examples/pretrain_mlm.py."""
    return Preset(
        name=name,
        architecture=architecture,
        config=dict(
            sizes,
            vocabulary_size=CHARACTERS.size,
            hidden_dim=256,
            num_segments=2,
            dropout=0.1,
            attention_dropout=0.1,
            attention="bidirectional",
        ),
        vocabulary=CHARACTERS,
        bundled=f"bundled/{name}",
        zero_segments=True,
        licence="Apache-2.0",
        homepage="",
        papers=(paper,),
        pretraining=(
            "whole-word masking, 36.9M token positions of People's Daily 1998-01, the "
            "CLUECorpusSmall sample, reviews, 史记 in modern Chinese, three classical "
            "novels and 宋词; by examples/pretrain_mlm.py"
        ),
        notes=(
            *notes,
            "For demos and tests; its README.md has the figures by source.",
        ),
    )


# --- the rows -----------------------------------------------------------------------

_ROWS = (
    Preset(
        name="gau-alpha",
        architecture="gau_alpha",
        config=dict(
            vocabulary_size=CHARACTERS.size,
            num_layers=24,
            hidden_dim=768,
            intermediate_dim=1536,
            key_dim=128,
            num_segments=2,
            activation="swish",
            dropout=0.1,
            attention_dropout=0.1,
            attention="bidirectional",
            normalizer="entropy_invariant_softmax",
        ),
        vocabulary=CHARACTERS,
        **_zhuiyi(
            "chinese_GAU-alpha-char_L-24_H-768",
            _baidu("1NnWvJCin3v7MAZfAy2y0Gg", "0d4s"),
        ),
        mirrors=_junnyu("chinese_GAU-alpha-char_L-24_H-768"),
        zero_segments=True,
        homepage=_GITHUB + "GAU-alpha",
        papers=("https://kexue.fm/archives/9052", "https://arxiv.org/abs/2202.10447"),
        pretraining=(
            "Whole-word masked LM at lengths up to 512, on the same data as the "
            "unreleased masked-LM-only RoFormerV2; LAMB without warm-up"
        ),
        notes=(
            "Published numbers were made before bert4keras floored the length of the "
            "log-n scale at 16: rows shorter than 16 tokens differ unless the "
            "normalizer's min_length is 1.",
            "Segment ids were zero throughout the training.",
        ),
    ),
    Preset(
        name="roformer-base",
        architecture="roformer",
        config=_roformer("base", WORDS),
        vocabulary=WORDS,
        **_zhuiyi(
            "chinese_roformer_L-12_H-768_A-12",
            _baidu("1fiss862YsGCwf2HvU_Jm-g", "xy9x"),
        ),
        mirrors=_junnyu("roformer_chinese_base"),
        homepage=_GITHUB + "roformer",
        papers=_ROFORMER_PAPER,
        pretraining=(
            "Masked LM over words on some 30 GB of text, continued from WoBERT Plus "
            "in six stages with lengths up to 1536"
        ),
        notes=(_POOLER_UNKNOWN,),
    ),
    Preset(
        name="roformer-small",
        architecture="roformer",
        config=_roformer("small", WORDS),
        vocabulary=WORDS,
        **_zhuiyi(
            "chinese_roformer_L-6_H-384_A-6",
            _baidu("1iIXgZHHCgrYGXVRRSSCVPg", "gy97"),
        ),
        mirrors=_junnyu("roformer_chinese_small"),
        homepage=_GITHUB + "roformer",
        papers=_ROFORMER_PAPER,
        pretraining="Masked LM over words; no details published for this size",
        notes=(_POOLER_UNKNOWN,),
    ),
    Preset(
        name="roformer-char-base",
        architecture="roformer",
        config=_roformer("base", CHARACTERS),
        vocabulary=CHARACTERS,
        **_zhuiyi(
            "chinese_roformer-char_L-12_H-768_A-12",
            _baidu("1Q1pq8F4Fsl6bTipUAkqeDQ", "bt94"),
        ),
        mirrors=_junnyu("roformer_chinese_char_base"),
        homepage=_GITHUB + "roformer",
        papers=_ROFORMER_PAPER,
        pretraining=(
            "Masked LM over characters on some 30 GB of text, continued from RoBERTa "
            "weights"
        ),
        notes=(
            'The published tables say only "RoFormer base". They are listed here '
            "because their scripts cut text into characters.",
        ),
    ),
    Preset(
        name="roformer-char-small",
        architecture="roformer",
        config=_roformer("small", CHARACTERS),
        vocabulary=CHARACTERS,
        **_zhuiyi(
            "chinese_roformer-char_L-6_H-384_A-6",
            _baidu("1cc281-M0Rsjlwws5phqzbQ", "a44c"),
        ),
        mirrors=_junnyu("roformer_chinese_char_small"),
        homepage=_GITHUB + "roformer",
        papers=_ROFORMER_PAPER,
        pretraining="Masked LM over characters; no details published for this size",
    ),
    Preset(
        name="roformer-gpt",
        architecture="roformer",
        config=_roformer("base", CHARACTERS, attention="causal"),
        vocabulary=CHARACTERS,
        **_zhuiyi(
            "chinese_roformer-gpt-char_L-12_H-768_A-12",
            _baidu("11YTnWLX0ThQr2P2yW0P7GA", "2nnn"),
        ),
        zero_segments=True,
        homepage=_GITHUB + "roformer",
        papers=_ROFORMER_PAPER,
        pretraining="Left-to-right language model over characters; data not published",
        notes=(
            "The masked-LM head gives the next token's logits; drop the final [SEP] of "
            "a prompt before generating.",
            "No mirror of this model is known, and its configuration is read from its "
            "name and its siblings.",
        ),
    ),
    _roformer_sim(
        "roformer-sim-base",
        "base",
        _zhuiyi(
            "chinese_roformer-sim-char_L-12_H-768_A-12",
            _baidu("1f1FB288nv1a6jYjsNCordg", "2cgz"),
        ),
        mirror="roformer_chinese_sim_char_base",
    ),
    _roformer_sim(
        "roformer-sim-small",
        "small",
        _zhuiyi(
            "chinese_roformer-sim-char_L-6_H-384_A-6",
            _baidu("1r0eJ7shGwQ0RzV9BTFFW4g", "h68q"),
        ),
        mirror="roformer_chinese_sim_char_small",
    ),
    _roformer_sim(
        "roformer-sim-ft-base",
        "base",
        _zhuiyi(
            "chinese_roformer-sim-char-ft_L-12_H-768_A-12",
            _baidu("1Igh3tSvSu_ahDZmGaOlVoA", "w15n"),
        ),
        mirror="roformer_chinese_sim_char_ft_base",
        supervised=True,
    ),
    _roformer_sim(
        "roformer-sim-ft-small",
        "small",
        _zhuiyi(
            "chinese_roformer-sim-char-ft_L-6_H-384_A-6",
            _baidu("1G36x7YQF1b6nzW0OzyJS_Q", "gty5"),
        ),
        mirror="roformer_chinese_sim_char_ft_small",
        supervised=True,
    ),
    _roformer_v2(
        "small",
        _zhuiyi(
            "chinese_roformer-v2-char_L-6_H-384_A-6",
            _baidu("1huUrC9P60Afggo8AfiUcmA", "ttn4"),
        ),
        supervised_steps="750,000",
    ),
    _roformer_v2(
        "base",
        _zhuiyi(
            "chinese_roformer-v2-char_L-12_H-768_A-12",
            _baidu("1qcnN4LVKVe0-mnHlkN3-6Q", "pfoh"),
        ),
        supervised_steps="750,000",
    ),
    _roformer_v2(
        "large",
        _zhuiyi(
            "chinese_roformer-v2-char_L-24_H-1024_A-16",
            _baidu("1QiJWSZrGxn8vek-8myvL6w", "npfv"),
        ),
        supervised_steps="500,000",
    ),
    Preset(
        name="bert-base-chinese",
        architecture="bert",
        config=_bert(),
        vocabulary=GOOGLE_CHINESE,
        archive="chinese_L-12_H-768_A-12",
        urls=(
            "https://storage.googleapis.com/bert_models/2018_11_03/"
            "chinese_L-12_H-768_A-12.zip",
        ),
        mirrors=(
            Mirror(
                "google-bert/bert-base-chinese",
                ("config.json", "vocab.txt", "model.safetensors"),
            ),
        ),
        licence="Apache-2.0",
        homepage="https://github.com/google-research/bert",
        papers=("https://arxiv.org/abs/1810.04805",),
        pretraining=(
            "Masked LM and next-sentence prediction on Chinese Wikipedia, simplified "
            "and traditional"
        ),
        notes=("The baseline of the published tables, not a rotary model.",),
    ),
    Preset(
        name="roberta-wwm-ext-chinese",
        architecture="bert",
        config=_bert(),
        vocabulary=GOOGLE_CHINESE,
        archive="chinese_roberta_wwm_ext_L-12_H-768_A-12",
        urls=(
            "https://storage.googleapis.com/chineseglue/pretrain_models/"
            "chinese_roberta_wwm_ext_L-12_H-768_A-12.zip",
        ),
        mirrors=(Mirror("hfl/chinese-roberta-wwm-ext"),),
        manual=("https://drive.google.com/open?id=1jMAKIJmPn7kADgD3yQZhpsqM-IRM1qZt",),
        licence="Apache-2.0",
        homepage="https://github.com/ymcui/Chinese-BERT-wwm",
        papers=("https://arxiv.org/abs/1906.08101", "https://arxiv.org/abs/2004.13922"),
        pretraining=(
            "Whole-word masked LM without next-sentence prediction on Chinese "
            "Wikipedia and other text, 5.4 billion words"
        ),
        notes=(
            "The baseline of the published tables, not a rotary model; RoBERTa in "
            "name and training, BERT in structure.",
            "Its authors host the zip on a page for browsers only; the address here "
            "is the copy of the CLUE organisers.",
        ),
    ),
    _tiny(
        "gau-alpha-tiny",
        "gau_alpha",
        dict(
            num_layers=4,
            intermediate_dim=384,
            key_dim=64,
            activation="swish",
            normalizer="entropy_invariant_softmax",
        ),
        "https://kexue.fm/archives/9052",
        (
            "Held-out whole-word masked tokens (37145): accuracy 18.7 %, loss 4.97. "
            "Counting the same text: unigram 5.9 % (6.70), left bigram 5.6 % (6.56), "
            "right bigram 7.1 % (6.52), both with trigrams 9.8 % (6.36).",
            "Held-out single masked tokens (37776): accuracy 31.9 %, loss 3.96; "
            "unigram 5.6 % (6.71), left bigram 13.8 % (5.58), right bigram 14.9 % "
            "(5.50), both with trigrams 29.4 % (4.30).",
        ),
    ),
    _tiny(
        "roformer-v2-tiny",
        "roformer_v2",
        dict(num_layers=2, num_heads=4, intermediate_dim=704, activation="relu"),
        "https://kexue.fm/archives/8998",
        (
            "Trained as gau-alpha-tiny was, with as many parameters, to compare them.",
            "Held-out whole-word masked tokens (37145): accuracy 19.0 %, loss 4.95; "
            "single masked tokens (37776): 33.1 %, loss 3.87.",
        ),
    ),
)

PRESETS: Mapping[str, Preset] = MappingProxyType({row.name: row for row in _ROWS})
