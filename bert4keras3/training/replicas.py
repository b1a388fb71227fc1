"""Training on the replicas of a TensorFlow strategy, with XLA inside each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

__all__ = ["Replicas"]

CLIPS = ("clipnorm", "global_clipnorm", "clipvalue")


class Replicas:
    """Trains a compiled model on every replica of a `tf.distribute` strategy.

    Each replica compiles forward and backward pass with XLA, and computes
    `sum(w * loss) / sum_over_replicas(sum(w))`; gradients are summed over the replicas
    and the optimizer is applied to the sum. So the losses are those of one device with
    the whole batch, however the weights `w` fall on the replicas.

    Keras's `fit` can do neither: it puts XLA around the strategy, which fails, and
    divides by the weights of each replica; with `MultiWorkerMirroredStrategy` it does
    not run at all (keras#20585).

    On a TPU, build the model within the scope of `tf.distribute.TPUStrategy`. That is
    untested: the strategy needs the hardware before anything else. The JAX backend is
    the proven way to TPUs; see `docs/guides/accelerators.md`.

    Args:
        model: a compiled `keras.Model`, built and compiled within `strategy.scope()`;
            its loss takes weights and divides by their sum
            (`reduction="mean_with_sample_weight"`).
        strategy: a `tf.distribute.Strategy`.
        jit_compile: bool, XLA within each replica.

    Raises:
        RuntimeError: the backend is not TensorFlow.
        ValueError: the loss is not such a mean.
    """

    def __init__(self, model: keras.Model, strategy: Any, jit_compile: bool = True):
        if keras.backend.backend() != "tensorflow":
            raise RuntimeError(
                "Strategies of tf.distribute need KERAS_BACKEND=tensorflow; on JAX, "
                "set keras.distribution.DataParallel or ModelParallel and call fit()."
            )
        reduction = getattr(model.loss, "reduction", None)
        if reduction != "mean_with_sample_weight":
            raise ValueError(
                "Losses of replicas can be joined if each is a mean by weights: "
                'compile() with a loss of reduction="mean_with_sample_weight". '
                f"Received {model.loss!r} with reduction={reduction!r}."
            )
        self.model, self.strategy = model, strategy
        self._jit_compile = jit_compile
        self._step: Any = None

    @property
    def num_replicas(self) -> int:
        """How many replicas there are, on all machines."""
        return int(self.strategy.num_replicas_in_sync)

    def _build(self) -> Any:
        """Return the step over all replicas, as a graph."""
        import tensorflow as tf

        model, strategy = self.model, self.strategy

        @tf.function(jit_compile=self._jit_compile, autograph=False)
        def gradients(trained: Any, others: Any, batch: Any, total: Any) -> Any:
            inputs, labels, weights = batch
            with tf.GradientTape() as tape:
                tape.watch(trained)
                outputs, others = model.stateless_call(
                    trained, others, inputs, training=True
                )
                share = tf.math.divide_no_nan(tf.reduce_sum(weights), total)
                # Within a strategy Keras divides a mean by the number of replicas.
                share *= self.num_replicas
                loss = model.loss(labels, outputs, sample_weight=weights) * share
            found = tape.gradient(loss, trained)
            return loss, [tf.convert_to_tensor(each) for each in found], others, outputs

        def of_replica(batch: Any) -> Any:
            context = tf.distribute.get_replica_context()
            sums = tf.distribute.ReduceOp.SUM
            inputs, labels, weights = batch
            total = context.all_reduce(sums, tf.reduce_sum(weights))
            loss, found, others, outputs = gradients(
                [tf.convert_to_tensor(v.value) for v in model.trainable_variables],
                [tf.convert_to_tensor(v.value) for v in model.non_trainable_variables],
                batch,
                total,
            )
            # The optimizer clips before it sums: give each the same part of the sum.
            found = context.all_reduce(sums, found)
            model.optimizer.apply(
                [each / self.num_replicas for each in found], model.trainable_variables
            )
            for variable, value in zip(
                model.non_trainable_variables, others, strict=True
            ):
                variable.value.assign(value)
            for metric in self._metrics():
                metric.update_state(labels, outputs, weights)
            return context.all_reduce(sums, loss)

        @tf.function(autograph=False)
        def step(batch: Any) -> Any:
            losses = strategy.run(of_replica, args=(batch,))
            return strategy.experimental_local_results(losses)[0]

        return step

    def _metrics(self) -> list[Any]:
        """The metrics of `compile()`, without the running mean of the loss."""
        compiled = self.model._compile_metrics
        return list(compiled.metrics) if compiled is not None else []

    def fit(
        self,
        batches: Any,
        steps_per_epoch: int,
        epochs: int = 1,
        initial_epoch: int = 0,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        verbose: Any = "auto",
        shuffle: bool = False,
    ) -> keras.callbacks.History:
        """Train as `keras.Model.fit` does, on batches of all replicas together.

        Args:
            batches: `tf.data.Dataset` of `(inputs, labels, weights)`, without end, of
                one shape; the replicas divide each batch.
            steps_per_epoch, epochs, initial_epoch, callbacks, verbose: see `fit`.
            shuffle: must be false; shuffle the dataset.

        Returns:
            The history of the loss and the metrics.

        Raises:
            ValueError: a batch does not divide over the replicas.
        """
        import tensorflow as tf

        if shuffle:
            raise ValueError("Shuffle the dataset: shuffle=True is not for a dataset.")
        rows = tf.nest.flatten(batches.element_spec)[0].shape[0]
        if rows is not None and rows % self.num_replicas:
            raise ValueError(
                f"A batch of {rows} rows does not divide over {self.num_replicas} "
                f"replicas; pass a multiple of {self.num_replicas}."
            )
        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = (
            tf.data.experimental.AutoShardPolicy.DATA
        )
        iterator = iter(
            self.strategy.experimental_distribute_dataset(batches.with_options(options))
        )
        model = self.model
        calls = keras.callbacks.CallbackList(
            list(callbacks),
            add_history=True,
            add_progbar=verbose != 0,
            verbose=1 if verbose == "auto" else verbose,
            epochs=epochs,
            steps=steps_per_epoch,
            model=model,
        )
        if self._step is None:
            example = tf.nest.map_structure(
                lambda spec: tf.ones([n or 1 for n in spec.shape], spec.dtype),
                batches.element_spec,
            )
            with self.strategy.scope():
                model.optimizer.build(model.trainable_variables)
                # As `fit` does before its first step: it makes the metrics' variables.
                model._symbolic_build(data_batch=example)
            self._step = self._build()
        clips = {name: getattr(model.optimizer, name, None) for name in CLIPS}
        for name, value in clips.items():
            if value is not None:
                setattr(model.optimizer, name, value / self.num_replicas)
        try:
            calls.on_train_begin()
            for epoch in range(initial_epoch, epochs):
                calls.on_epoch_begin(epoch)
                calls.on_epoch_end(epoch, self._epoch(iterator, steps_per_epoch, calls))
            calls.on_train_end()
        finally:
            for name, value in clips.items():
                if value is not None:
                    setattr(model.optimizer, name, value)
        return calls._history

    def _epoch(self, iterator: Any, steps: int, calls: Any) -> dict[str, float]:
        """Run so many steps; return the means."""
        for metric in self._metrics():
            metric.reset_state()
        losses = 0.0
        logs: dict[str, float] = {}
        for number in range(steps):
            calls.on_train_batch_begin(number)
            losses += float(self._step(next(iterator)))
            logs = {"loss": losses / (number + 1)}
            logs |= {each.name: float(each.result()) for each in self._metrics()}
            calls.on_train_batch_end(number, logs)
        return logs
