"""Several tasks that train one backbone together."""

import contextlib

import keras
from keras import ops

from bert4keras3.tasks.task import Task
from bert4keras3.training.gradients import value_and_gradients
from bert4keras3.training.mixed_sets import mixed_sets, rows_of_sets


@keras.saving.register_keras_serializable(package="bert4keras3")
class MultiTask(keras.Model):
    """Trains tasks that have one backbone, with gradients made equally long.

    A step takes one batch of each task and moves the weights along

        G = sum_i w_i g_i / |g_i|,    g_i = d loss_i / d weights

    where `|g_i|`, in float32, is over the weights of the backbone, which all tasks
    have; the head of a task is scaled by the same number. So no task drowns the others,
    whatever the size of its loss. A task without a gradient adds nothing. With
    `normalize_gradients=False` it is `sum_i w_i g_i`.

    A step costs one forward and one backward pass of each task. How many rows each
    set has in a step decides on their shares; `dataset` mixes them. After training
    each task is used by itself: `tasks["topic"].predict(...)`.

    Sources: RoFormerV2's second stage of pretraining, which mixes 92 supervised tasks
    (https://kexue.fm/archives/8998); scaling by norms, https://kexue.fm/archives/8870.

    Args:
        tasks: dict of `Task` by name, all with the same backbone object.

    Call arguments:
        inputs: dict, the inputs of each task by name. The result is a dict of outputs.

    Raises:
        ValueError: no tasks, a name with a slash, or other backbones.

    Example:

    >>> from bert4keras3.tasks.text_classifier import TextClassifier
    >>> from bert4keras3.tasks.token_classifier import TokenClassifier
    >>> import zoo
    >>> backbone = zoo.load("gau-alpha-tiny")
    >>> topic = TextClassifier(backbone, num_classes=3)
    >>> words = TokenClassifier(backbone, num_classes=4)
    >>> model = MultiTask({"topic": topic, "words": words})
    >>> token_ids = {"token_ids": np.ones((2, 8), int)}
    >>> outputs = model({"topic": token_ids, "words": token_ids})
    >>> outputs["topic"].shape[1], outputs["words"].shape[1]
    (3, 8)
    """

    def __init__(self, tasks, **kwargs):
        super().__init__(**kwargs)
        _check_tasks(tasks)
        self.tasks = dict(tasks)
        self.backbone = next(iter(tasks.values())).backbone
        self.trackers = [keras.metrics.Mean(f"{name}_loss") for name in tasks]
        self._is_in_step = False
        self.built = True

    def compile(
        self,
        optimizer="auto",
        losses=None,
        task_weights=None,
        normalize_gradients=True,
        **kwargs,
    ):
        """`keras.Model.compile` for several tasks.

        Args:
            optimizer: `"auto"` for Adam at a learning rate of 2e-5.
            losses: dict, the losses of tasks that shall not have their own default.
            task_weights: dict of `w_i`; by default each is 1 / number of tasks.
            normalize_gradients: whether to divide gradients by their norms.
            **kwargs: as in Keras, but for losses and metrics: those of a task are found
                by `tasks[name].evaluate`.

        Raises:
            ValueError: a name that is no task, or a weight that is not positive.
        """
        losses, task_weights = losses or {}, task_weights or {}
        for name in (*losses, *task_weights):
            if name not in self.tasks:
                raise ValueError(f"There is no task {name!r}. {self._names()}")
        wrong = {name: w for name, w in task_weights.items() if not w > 0}
        if wrong:
            raise ValueError(
                f"Weights of tasks are positive numbers. Received {wrong}."
            )
        if optimizer == "auto":
            optimizer = keras.optimizers.Adam(2e-5)
        self._compile_arguments = {
            "optimizer": optimizer,
            "losses": losses,
            "task_weights": task_weights,
            "normalize_gradients": normalize_gradients,
            **kwargs,
        }
        self.normalize_gradients = normalize_gradients
        self.task_weights = {
            name: float(task_weights.get(name, 1 / len(self.tasks)))
            for name in self.tasks
        }
        self.losses_of_tasks = {
            name: keras.tree.map_structure(
                _as_loss, losses[name] if name in losses else task.default_loss()
            )
            for name, task in self.tasks.items()
        }
        super().compile(optimizer, loss=None, **kwargs)

    def call(self, inputs, training=None):
        # A step runs each task in `compute_loss`, inside its gradient.
        if self._is_in_step:
            return {}
        return {
            name: task(inputs[name], training=training)
            for name, task in self.tasks.items()
        }

    def fit(self, x=None, *args, **kwargs):
        """`keras.Model.fit`, without its warning that a dataset is not shuffled."""
        if hasattr(x, "element_spec"):
            kwargs.setdefault("shuffle", False)
        return super().fit(x, *args, **kwargs)

    def train_step(self, *args, **kwargs):
        if keras.backend.backend() == "torch":
            # Keras knows PyTorch's parameters by their paths, which two heads may
            # share, and would let the gradients of one of them add up over the steps.
            for variable in self.trainable_variables:
                variable.value.grad = None
        with self._in_step():
            return super().train_step(*args, **kwargs)

    @contextlib.contextmanager
    def _in_step(self):
        self._is_in_step = True
        try:
            yield
        finally:
            self._is_in_step = False

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        """`sum_i w_i loss_i`, whose gradient is `G` while training."""
        self._check_names(x, "inputs")
        self._check_names(y, "labels")
        if self._is_in_step:
            return self._training_loss(x, y, sample_weight or {})
        values = {
            name: self._loss_of(name, y, y_pred[name], sample_weight or {})
            for name in self.tasks
        }
        return self._track(values)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return self.get_metrics_result()

    @property
    def metrics(self):
        loss = [] if self._loss_tracker is None else [self._loss_tracker]
        return loss + list(self.trackers)

    def _training_loss(self, x, y, sample_weight):
        variables = self.trainable_variables
        shared = {id(v) for v in self.backbone.trainable_variables}
        held = self.non_trainable_variables
        state = [ops.convert_to_tensor(v.value) for v in held]
        total = [0.0] * len(variables)
        values = {}
        for name, task in self.tasks.items():

            def loss(tensors, name=name, task=task, state=state):
                now = zip((*variables, *held), (*tensors, *state), strict=True)
                with keras.StatelessScope(list(now)) as scope:
                    y_pred = task(x[name], training=True)
                    value = self._loss_of(name, y, y_pred, sample_weight)
                # The state of random generators goes on to the next task.
                after = [scope.get_current_value(v) for v in held]
                return ops.cast(value, "float32"), after

            constants = [ops.stop_gradient(v.value) for v in variables]
            values[name], state, found = value_and_gradients(loss, constants)
            factor = self.task_weights[name]
            if self.normalize_gradients:
                factor = factor * _inverse_norm(
                    [
                        gradient
                        for v, gradient in zip(variables, found, strict=True)
                        if id(v) in shared
                    ]
                )
            total = [
                before + factor * ops.cast(gradient, "float32")
                for before, gradient in zip(total, found, strict=True)
            ]
        for v, value in zip(held, state, strict=True):
            v.assign(value)
        loss = ops.stop_gradient(self._track(values))
        return loss + _zero_with_gradients(variables, total)

    def _loss_of(self, name, y, y_pred, sample_weight):
        """Loss of a task; one with several outputs has the sum of their losses."""
        losses, labels = self.losses_of_tasks[name], y[name]
        weights = sample_weight.get(name)
        if not isinstance(losses, dict):
            return losses(labels, y_pred, sample_weight=weights)
        weights = (
            weights if isinstance(weights, dict) else dict.fromkeys(losses, weights)
        )
        return sum(
            loss(labels[part], y_pred[part], sample_weight=weights.get(part))
            for part, loss in losses.items()
        )

    def _track(self, values):
        for tracker, value in zip(self.trackers, values.values(), strict=True):
            tracker.update_state(ops.stop_gradient(value))
        return sum(self.task_weights[name] * value for name, value in values.items())

    def dataset(self, sets, batch_size=32, temperature=1.0, seed=0, first_batch=0):
        """Batches of all tasks from labelled texts, without end.

        A set has `batch_size` times its share of rows in each batch, and a share is
        `n_i^(1 / temperature)` of `n_i` examples: 1 mixes by size, more gives small
        sets more. Rows are padded to the longest length of the task's preprocessor, so
        that a step is compiled once. Each pass over a set has an order of its own, and
        the rows of batch `n` depend on `n` and the seed alone. Texts are encoded when
        they are read.

        Args:
            sets: dict by task of `(texts, labels)`, as `fit` of the task takes them, or
                of a `tf.data.Dataset` of ready batches without end, such as that of
                `pretraining_dataset`, which is taken as it is.
            batch_size: rows of a step, of all sets of texts together.
            temperature: positive number.
            seed: int, another one draws other orders.
            first_batch: int, the number of the batch to begin with. It does not move
                ready batches: begin those there too.

        Returns:
            A `tf.data.Dataset` for `fit`, which needs `steps_per_epoch`.

        Raises:
            ValueError: sets that are not those of the tasks, fewer rows than sets, or a
                preprocessor without `sequence_length`.
        """
        import tensorflow as tf

        self._check_names(sets, "sets")
        ready, sources = {}, {}
        for name, task in self.tasks.items():
            if isinstance(sets[name], tf.data.Dataset):
                ready[name] = sets[name]
                continue
            batches = task.batches_of_one_length(*sets[name])
            sources[name] = (len(batches.order), batches.take)
        mixed = [ready[name].map(_named(name)) for name in ready]
        if sources:
            counts = {name: count for name, (count, _) in sources.items()}
            rows = rows_of_sets(counts, batch_size, temperature)
            mixed.append(mixed_sets(sources, rows, seed, first_batch))
        return mixed[0] if len(mixed) == 1 else tf.data.Dataset.zip(*mixed).map(_merged)

    def _names(self):
        return f"The tasks are {', '.join(map(repr, self.tasks))}."

    def _check_names(self, given, what):
        if not isinstance(given, dict) or set(given) != set(self.tasks):
            received = sorted(given) if isinstance(given, dict) else type(given)
            raise ValueError(
                f"The {what} of a MultiTask are a dict with a value for each task. "
                f"{self._names()} Received {received}."
            )

    def get_config(self):
        tasks = {}
        for name, task in self.tasks.items():
            tasks[name] = keras.saving.serialize_keras_object(task)
            del tasks[name]["config"]["backbone"]  # once, and not for every task
            tasks[name].pop("compile_config", None)
            tasks[name].pop("build_config", None)
        return {
            "name": self.name,
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "tasks": tasks,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        backbone = keras.saving.deserialize_keras_object(
            config["backbone"], custom_objects=custom_objects
        )
        tasks = {}
        for name, each in config["tasks"].items():
            task_class = keras.saving.get_registered_object(
                each["registered_name"], custom_objects
            )
            tasks[name] = task_class.from_config(
                {**each["config"], "backbone": backbone}, custom_objects
            )
        return cls(tasks, name=config["name"])

    def get_compile_config(self):
        if not self.compiled:
            return {}
        return keras.saving.serialize_keras_object(self._compile_arguments)

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)


def _named(name):
    """From a batch of one task to one that `MultiTask` takes."""

    def with_name(*batch):
        return tuple({name: part} for part in batch)

    return with_name


def _merged(*batches):
    """One batch of several tasks, from batches of some each."""
    merged = ({}, {}, {})
    for batch in batches:
        for column, part in zip(merged, batch, strict=False):  # weights may lack
            column.update(part)
    return merged


def _check_tasks(tasks):
    if not isinstance(tasks, dict) or not tasks:
        raise ValueError(
            "MultiTask takes a dict of tasks by name, for example "
            f'{{"topic": classifier}}. Received {tasks!r}.'
        )
    for name, task in tasks.items():
        if not isinstance(name, str) or not name or "/" in name:
            raise ValueError(
                f"The name of a task is a string without slash. Received {name!r}."
            )
        if not isinstance(task, Task):
            raise ValueError(f"The task {name!r} is no `Task`. Received {task!r}.")
    first, *others = tasks.items()
    for name, task in others:
        if task.backbone is not first[1].backbone:
            raise ValueError(
                f"The tasks {first[0]!r} and {name!r} have different backbones. Build "
                "all with one object, for example TextClassifier(backbone, ...) and "
                "TokenClassifier(backbone, ...)."
            )


class MeanOf(keras.losses.Loss):
    """The mean of a function of labels and predictions."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, y_true, y_pred):
        return self.function(y_true, y_pred)


def _as_loss(loss):
    loss = keras.losses.get(loss)
    return loss if isinstance(loss, keras.losses.Loss) else MeanOf(loss)


def _inverse_norm(gradients):
    """1 / norm of a list of tensors, 0 where they are all zero; scalar, float32."""
    norm = ops.sqrt(
        sum(ops.sum(ops.square(ops.cast(each, "float32"))) for each in gradients)
    )
    return ops.where(norm > 0, 1 / ops.where(norm > 0, norm, 1.0), 0.0)


def _zero_with_gradients(variables, gradients):
    """A scalar 0 whose gradients with respect to variables are the given ones."""
    total = 0.0
    for variable, gradient in zip(variables, gradients, strict=True):
        value = ops.cast(variable.value, "float32")
        change = value - ops.stop_gradient(value)
        total = total + ops.sum(change * ops.stop_gradient(gradient))
    return total
