"""Names in a text by tags with a conditional random field.

Data: lines `character<SPACE>tag`, an empty line after each sentence, tags `B-X`, `I-X`
    and `O`, as in the People's Daily corpus of bert4keras's example.
Command: python examples/fine_tuning/ner_crf.py --train TRAIN --dev DEV
    python examples/fine_tuning/ner_crf.py --smoke [--decoder softmax]
Hardware: one GPU for the base models; two CPU cores do for gau-alpha-tiny.
Score: F1 of exact entities on dev.
Source: https://kexue.fm/archives/7196 (why the transitions get a higher rate).
"""

from tables import compile_task, finish, parse_arguments

import zoo
from bert4keras3.metrics.entities import entity_scores
from bert4keras3.tasks.entity_tags import bio_names

SMOKE = "小 B-PER\n明 I-PER\n在 O\n北 B-LOC\n京 I-LOC\n\n去 O\n上 B-LOC\n海 I-LOC\n\n"


def load_data(path):
    """Texts, and for each its `(start, end, kind)` with half-open places."""
    if path is None:
        return sentences(SMOKE.split("\n"), "built in")
    with open(path, encoding="utf-8") as file:
        return sentences((line.rstrip("\n") for line in file), path)


def sentences(lines, path):
    texts, entities, characters, found = [], [], [], []
    for number, line in enumerate([*lines, ""], 1):
        if not line.strip():
            if characters:
                texts.append("".join(characters))
                entities.append([tuple(entity) for entity in found])
            characters, found = [], []
            continue
        character, _, tag = line.rpartition(" ")
        if not character or tag[:2] not in ("B-", "I-", "O"):
            raise ValueError(
                f"{path}, line {number}: expected a character, a space and a tag B-X, "
                f"I-X or O; received {line!r}."
            )
        place, kind = len("".join(characters)), tag[2:]
        characters.append(character)
        end = place + len(character)
        if tag.startswith("I-") and found and found[-1][1:] == [place, kind]:
            found[-1][1] = end
        elif tag != "O":
            found.append([place, end, kind])
    return texts, entities


def main(arguments=None):
    options = parse_arguments(
        __doc__, arguments, epochs=10, decoder=("crf", "softmax, crf or memm")
    )
    train, dev = load_data(options.train), load_data(options.dev)
    kinds = sorted({kind for found in train[1] for _, _, kind in found})
    model = zoo.load(
        options.model,
        task="token_classifier",
        label_names=bio_names(kinds),
        decoder=options.decoder,
        lr_multiplier=100.0,
        sequence_length=options.sequence_length,
        **options.sizes,
    )
    compile_task(model, options)
    model.fit(*train, batch_size=options.batch_size, epochs=options.epochs, verbose=2)
    found = [set(e) for e in model.recognize(dev[0], batch_size=options.batch_size)]
    scores = entity_scores([set(entities) for entities in dev[1]], found)
    return finish(model, options, "f1", scores["f1"])


if __name__ == "__main__":
    main()
