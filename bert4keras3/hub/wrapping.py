"""From an object of ours to the KerasHub object over the same layers."""

from bert4keras3 import tasks, text
from bert4keras3.hub.backbone import Backbone
from bert4keras3.hub.masked_lm import MaskedLM
from bert4keras3.hub.text_classifier import TextClassifier
from bert4keras3.hub.text_embedder import TextEmbedder
from bert4keras3.hub.tokenizer import Tokenizer
from bert4keras3.models import Backbone as OurBackbone

# Name of a task of ours -> what makes the KerasHub task of it.
WRAPPERS = {
    "masked_lm": MaskedLM.wrap,
    "text_classifier": TextClassifier.wrap,
    "text_embedder": TextEmbedder.wrap,
}


def wrap(thing):
    """A KerasHub object over the layers of a backbone, task or tokenizer of ours.

    Weights are shared: what trains one, trains the other. `unwrap()` of the result
    gives ours back.

    Args:
        thing: a backbone of `bert4keras3.models`, a masked LM, text classifier or text
            embedder of `bert4keras3.tasks`, or a `bert4keras3.text.Tokenizer`.

    Returns:
        An object of the class of this package that has the same name, `Backbone` for
        every backbone.

    Raises:
        TypeError: KerasHub has nothing of this kind.

    Example:

    >>> from bert4keras3.models import GAUAlphaBackbone
    >>> ours = tasks.get("masked_lm")(GAUAlphaBackbone(50, 1, 16, 32, key_dim=8))
    >>> model = wrap(ours)
    >>> type(model).__module__, model.unwrap() is ours
    ('bert4keras3.hub.masked_lm', True)
    """
    if isinstance(thing, OurBackbone):
        return Backbone(thing)
    if isinstance(thing, text.Tokenizer):
        return Tokenizer.wrap(thing)
    for name, wrap_task in WRAPPERS.items():
        if isinstance(thing, tasks.get(name)):
            return wrap_task(thing)
    raise TypeError(
        f"KerasHub has no task like {type(thing).__name__}. It can be a backbone, a "
        f"tokenizer or one of {', '.join(sorted(WRAPPERS))}; the backbone of any task "
        "can be wrapped by itself."
    )
