"""Vectors of sentences without any label: SimCSE, a text and itself with other dropout.

Data: `--train` one sentence per line; `--dev` lines `sentence<TAB>sentence<TAB>score`.
Command: python examples/fine_tuning/simcse.py --train TRAIN --dev DEV
    python examples/fine_tuning/simcse.py --smoke
Hardware: one GPU for the base models; two CPU cores do for gau-alpha-tiny.
Score: Spearman's correlation of cosine and score on dev, before and after; and of the
    vectors whitened without training (https://kexue.fm/archives/8069).
Source: https://kexue.fm/archives/8348, https://arxiv.org/abs/2104.08821.
"""

from cosent import SMOKE, correlation, load_data
from tables import compile_task, finish, parse_arguments, read_table

import zoo
from bert4keras3.embedding_losses import SimCSELoss


def build_model(options, **arguments):
    return zoo.load(
        options.model,
        task="text_embedder",
        pooling="mean",
        sequence_length=options.sequence_length,
        **arguments,
        **options.sizes,
    )


def main(arguments=None):
    options = parse_arguments(
        __doc__, arguments, sequence_length=64, epochs=1, batch_size=64
    )
    texts = SMOKE[0] + SMOKE[1] if options.smoke else read_table(options.train, 1)[0]
    dev = load_data(options.dev)
    whitened = build_model(options, whitening_dim=4 if options.smoke else 128)
    print(f"before: {correlation(whitened, *dev):.4f}")
    whitened.fit_whitening(texts)
    print(f"whitened: {correlation(whitened, *dev):.4f}")
    # Dropout is all that tells the two copies apart.
    model = build_model(options, dropout=0.3, attention_dropout=0.1)
    compile_task(model, options, loss=SimCSELoss(temperature=0.05))
    model.fit(
        (texts, texts),
        batch_size=options.batch_size,
        epochs=options.epochs,
        verbose=2,
    )
    return finish(model, options, "spearman", correlation(model, *dev))


if __name__ == "__main__":
    main()
