"""What the hub's tasks have in common."""


def head_arguments(task):
    """The arguments of a task of ours that concern its head.

    Args:
        task: see `bert4keras3.tasks.task`.
    """
    others = {"backbone", "preprocessor", "name", "trainable"}
    config = task.get_config()
    return {key: config[key] for key in config if key not in others}


def with_preprocessor(task, preprocessor):
    """A task of ours that reads text as a preprocessor of the hub does.

    Args:
        task: see `bert4keras3.tasks.task`.
        preprocessor: of the hub, or `None`.
    """
    task.preprocessor = None if preprocessor is None else preprocessor.unwrap()
    return task


def quantize_backbone(task, mode=None, **kwargs):
    """Quantize the backbone of a task of the hub, and leave its head as it is.

    A preset holds the dtypes of the backbone's layers and of no others, so a quantized
    head could not be loaded again.

    Args:
        task: of the hub.
        mode, **kwargs: as `keras.Model.quantize` takes them.
    """
    task.backbone.quantize(mode, **kwargs)
    # They were compiled with the layers as they were.
    task.train_function = task.test_function = task.predict_function = None
