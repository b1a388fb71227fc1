"""Classification with a term that asks for more than the right answer.

Data: lines `text<TAB>label`, as for sentiment.py.
Command: python examples/fine_tuning/adversarial.py --train TRAIN --dev DEV --term fgm
    python examples/fine_tuning/adversarial.py --smoke
Hardware: one GPU for the base models; a step costs two to five times as much.
Score: accuracy on dev with each of the terms of `--term`, or of one of them.
Source: https://kexue.fm/archives/7234, /7466 and /8496.
"""

from sentiment import build_model, load_data
from tables import compile_task, finish, parse_arguments

from bert4keras3.training.adversarial import (
    FGM,
    PGD,
    GradientPenalty,
    VirtualAdversarial,
)
from bert4keras3.training.r_drop import RDrop

TERMS = {
    "none": list,
    "fgm": lambda: [FGM(epsilon=0.5)],
    "pgd": lambda: [PGD(epsilon=1.0, step_size=0.3, num_steps=3)],
    "virtual": lambda: [VirtualAdversarial(epsilon=1.0, xi=10.0)],
    "gradient_penalty": lambda: [GradientPenalty(weight=0.5)],
    "r_drop": lambda: [RDrop(alpha=4.0)],
}


def accuracy(options, train, dev, terms):
    model = build_model(options, sorted(set(train[1])))
    compile_task(model, options, extra_losses=terms)
    model.fit(*train, batch_size=options.batch_size, epochs=options.epochs, verbose=2)
    figures = model.evaluate(*dev, verbose=0, return_dict=True)
    return model, figures["sparse_categorical_accuracy"]


def main(arguments=None):
    names = ", ".join(TERMS)
    options = parse_arguments(__doc__, arguments, term=("all", f"all, or of {names}"))
    if options.term != "all" and options.term not in TERMS:
        raise SystemExit(f"--term {options.term}: expected all, or one of {names}")
    train, dev = load_data(options.train), load_data(options.dev)
    figures = {}
    chosen = list(TERMS) if options.term == "all" else [options.term]
    for name in chosen[:2] if options.smoke else chosen:
        model, figures[name] = accuracy(options, train, dev, TERMS[name]())
        finish(model, options, name, figures[name])
    return figures


if __name__ == "__main__":
    main()
