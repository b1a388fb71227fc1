"""Weight tables of the BERT-like encoders, from the naming rules of each layout.

BERT, RoFormer and RoFormerV2 files name the same parts in the same way, up to biases,
norms and the naming rule of the file format. See `weight_map` for what a row means.
"""

# ours, and the module's name in every BERT-like file
DENSES = (
    ("attention/query_dense", "attention/self/query"),
    ("attention/key_dense", "attention/self/key"),
    ("attention/value_dense", "attention/self/value"),
    ("attention/output_dense", "attention/output/dense"),
    ("feed_forward/intermediate_dense", "intermediate/dense"),
    ("feed_forward/output_dense", "output/dense"),
)
NORMS = (
    ("attention_norm", "attention/output/LayerNorm"),
    ("feed_forward_norm", "output/LayerNorm"),
)


def tf1_table(use_bias=True):
    """Table of a TF1 checkpoint: kernels as `[in, out]`, norms as gamma and beta."""
    return _table(_TF1, "bert/", use_bias)


def torch_table(prefix, use_bias=True, norm=("weight", "bias")):
    """Table of a torch file: kernels as `[out, in]`, dots between names.

    Args:
        prefix: `"roformer."` or `"bert."`; empty for a file of the encoder alone.
        use_bias: whether denses have biases and norms have weights.
        norm: names of a norm's two weights; old BERT files say gamma and beta.
    """
    return _table(_Torch(norm), prefix, use_bias)


def tf_h5_table(prefix, use_bias=True):
    """Table of a `tf_model.h5` of Hugging Face's TensorFlow classes.

    Args:
        prefix: `"roformer/"` or `"bert/"`.
        use_bias: whether denses have biases and norms have weights.
    """
    return _table(_TFH5, prefix, use_bias)


class _TF1Naming:
    layer = "encoder/layer_{}/"
    kernel_change = ()

    def dense(self, module):
        return f"{module}/kernel", f"{module}/bias"

    def norm(self, module):
        return f"{module}/gamma", f"{module}/beta"

    def embedding(self, module):
        return module


class _Torch:
    layer = "encoder.layer.{}."
    kernel_change = ("T",)

    def __init__(self, norm_names=("weight", "bias")):
        self.norm_names = norm_names

    def dense(self, module):
        module = module.replace("/", ".")
        return f"{module}.weight", f"{module}.bias"

    def norm(self, module):
        module = module.replace("/", ".")
        return tuple(f"{module}.{name}" for name in self.norm_names)

    def embedding(self, module):
        return module.replace("/", ".") + ".weight"


class _TFH5Naming(_TF1Naming):
    layer = "encoder/layer_._{}/"

    def embedding(self, module):
        # The token table is a bare weight, the others are embedding layers.
        return module + ("/weight" if "word" in module else "/embeddings")


_TF1 = _TF1Naming()
_TFH5 = _TFH5Naming()


def _table(naming, prefix, use_bias):
    rows = [
        (
            "token_embedding/embeddings",
            prefix + naming.embedding("embeddings/word_embeddings"),
        ),
        (
            "segment_embedding/embeddings",
            prefix + naming.embedding("embeddings/token_type_embeddings"),
        ),
    ]
    if use_bias:
        rows += norm_rows("embeddings_norm", prefix, "embeddings/LayerNorm", naming)
    for ours, module in DENSES:
        rows += dense_rows(
            f"transformer_layer_{{}}/{ours}",
            prefix + naming.layer,
            module,
            naming,
            use_bias,
        )
    if use_bias:
        for ours, module in NORMS:
            rows += norm_rows(
                f"transformer_layer_{{}}/{ours}", prefix + naming.layer, module, naming
            )
    return tuple(rows)


def dense_rows(ours, prefix, module, naming, use_bias=True):
    """Rows of a dense layer."""
    kernel, bias = naming.dense(module)
    rows = [(f"{ours}/kernel", prefix + kernel, *naming.kernel_change)]
    if use_bias:
        rows.append((f"{ours}/bias", prefix + bias))
    return rows


def norm_rows(ours, prefix, module, naming):
    """Rows of a layer norm."""
    gamma, beta = naming.norm(module)
    return [(f"{ours}/gamma", prefix + gamma), (f"{ours}/beta", prefix + beta)]


def tf1_head_table():
    """Masked-LM transform, pooler and next-sentence head in a TF1 checkpoint."""
    return (
        *dense_rows(
            "masked_lm_head/transform_dense",
            "cls/predictions/",
            "transform/dense",
            _TF1,
        ),
        *norm_rows(
            "masked_lm_head/transform_norm",
            "cls/predictions/",
            "transform/LayerNorm",
            _TF1,
        ),
        ("masked_lm_head/output_bias", "cls/predictions/output_bias"),
        *dense_rows("pooler/dense", "bert/", "pooler/dense", _TF1),
        # Stored transposed, unlike every other kernel of a TF1 checkpoint.
        ("next_sentence/kernel", "cls/seq_relationship/output_weights", "T"),
        ("next_sentence/bias", "cls/seq_relationship/output_bias"),
    )


def torch_head_table(prefix, norm=("weight", "bias")):
    """Masked-LM transform, pooler and next-sentence head in a torch file."""
    naming = _Torch(norm)
    return (
        *dense_rows(
            "masked_lm_head/transform_dense",
            "cls.predictions.",
            "transform/dense",
            naming,
        ),
        *norm_rows(
            "masked_lm_head/transform_norm",
            "cls.predictions.",
            "transform/LayerNorm",
            naming,
        ),
        ("masked_lm_head/output_bias", "cls.predictions.bias"),
        *dense_rows("pooler/dense", prefix, "pooler/dense", naming),
        *dense_rows("next_sentence", "cls.", "seq_relationship", naming),
    )


def tf_h5_head_table(prefix):
    """Heads in a `tf_model.h5`."""
    return (
        *dense_rows(
            "masked_lm_head/transform_dense",
            "mlm___cls/predictions/",
            "transform/dense",
            _TFH5,
        ),
        *norm_rows(
            "masked_lm_head/transform_norm",
            "mlm___cls/predictions/",
            "transform/LayerNorm",
            _TFH5,
        ),
        ("masked_lm_head/output_bias", "mlm___cls/predictions/bias"),
        *dense_rows("pooler/dense", prefix, "pooler/dense", _TFH5),
        *dense_rows("next_sentence", "nsp___cls/", "seq_relationship", _TFH5),
    )


def h5_table(use_bias=True):
    """Table of a Keras-2 h5 file written by bert4keras: `layer/number of the weight`.

    A dense with bias numbers kernel, bias; a norm beta, gamma; attention q, k, v, o.
    """
    step = 2 if use_bias else 1
    rows = [
        ("token_embedding/embeddings", "Embedding-Token/0"),
        ("segment_embedding/embeddings", "Embedding-Segment/0"),
    ]
    attention = "Transformer-{}-MultiHeadSelfAttention"
    feed_forward = "Transformer-{}-FeedForward"
    places = [(attention, i * step) for i in range(4)]
    places += [(feed_forward, i * step) for i in range(2)]
    for (ours, _), (layer, number) in zip(DENSES, places, strict=True):
        ours = f"transformer_layer_{{}}/{ours}"
        rows.append((f"{ours}/kernel", f"{layer}/{number}"))
        if use_bias:
            rows.append((f"{ours}/bias", f"{layer}/{number + 1}"))
    if use_bias:
        norms = [("embeddings_norm", "Embedding-Norm")]
        norms += [
            (f"transformer_layer_{{}}/{ours}", f"{layer}-Norm")
            for (ours, _), layer in zip(NORMS, (attention, feed_forward), strict=True)
        ]
        for ours, layer in norms:
            rows += [(f"{ours}/gamma", f"{layer}/1"), (f"{ours}/beta", f"{layer}/0")]
    return tuple(rows)


H5_HEAD_TABLE = (
    ("masked_lm_head/transform_dense/kernel", "MLM-Dense/0"),
    ("masked_lm_head/transform_dense/bias", "MLM-Dense/1"),
    ("masked_lm_head/transform_norm/gamma", "MLM-Norm/1"),
    ("masked_lm_head/transform_norm/beta", "MLM-Norm/0"),
    ("masked_lm_head/output_bias", "MLM-Bias/0"),
    ("pooler/dense/kernel", "Pooler-Dense/0"),
    ("pooler/dense/bias", "Pooler-Dense/1"),
    ("next_sentence/kernel", "NSP-Proba/0"),
    ("next_sentence/bias", "NSP-Proba/1"),
)
