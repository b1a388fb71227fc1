"""The command line: `python -m zoo`.

Exit codes: 0 done, 1 the operation or a check failed, 2 the command was not understood.
Results go to standard output, everything else to standard error.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import sys
from collections.abc import Callable
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

app = typer.Typer(
    name="zoo",
    help="Released GAU-α, RoFormer, RoFormerV2 and BERT models for Chinese text.",
    epilog="Exit codes: 0 done, 1 failed, 2 the command was not understood.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
output = Console(highlight=False)
messages = Console(stderr=True, highlight=False)
settings = {"debug": False}

DEFAULT_MODEL = "gau-alpha-tiny"


class Format(StrEnum):
    """What `convert` can write."""

    TF1 = "tf1"
    SAFETENSORS = "safetensors"
    KERAS = "keras"


class DType(StrEnum):
    """In which precision `convert` stores the weights."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"


Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|PATH",
        help="A released model, or a folder, zip or checkpoint on disk.",
    ),
]


@app.callback()
def options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the Python traceback of an error.")
    ] = False,
) -> None:
    settings["debug"] = debug


def reported(command: Callable[..., None]) -> Callable[..., None]:
    """Turns an exception of a command into one block of text and exit code 1."""

    @functools.wraps(command)
    def run(*arguments: Any, **keywords: Any) -> None:
        try:
            command(*arguments, **keywords)
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except Exception as error:
            if settings["debug"]:
                raise
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                # The reader went away, as `| head` does: nobody to report to.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise typer.Exit(1) from error
            text = str(error) or type(error).__name__
            messages.print(f"[bold red]error:[/] {escape(text)}", soft_wrap=True)
            messages.print("[dim]--debug before the command shows the traceback[/]")
            raise typer.Exit(1) from error

    return run


@contextmanager
def working(text: str) -> Any:
    """Shows what is being waited for; silent where standard error is not a terminal."""
    from zoo.quiet import quiet_native_code

    with messages.status(escape(text)):
        with quiet_native_code():
            import keras  # noqa: F401
        yield


@app.command("list")
@reported
def list_command(
    pattern: Annotated[
        str | None, typer.Argument(help='Which names, for example "roformer*".')
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="As the Markdown table of the README.")
    ] = False,
) -> None:
    """List the released models: name, size, vocabulary, where the weights come from."""
    from zoo.catalogue import list_models
    from zoo.markdown import zoo_table
    from zoo.presets import PRESETS

    models = list_models(pattern)
    if not models:
        raise ValueError(str(models))
    if markdown:
        typer.echo(zoo_table(PRESETS[name] for name in models.names), nl=False)
    else:
        typer.echo(str(models))


@app.command()
@reported
def describe(name: Annotated[str, typer.Argument(help="A name of `list`.")]) -> None:
    """Describe one released model: configuration, data, licence, published scores."""
    from zoo.catalogue import describe as describe_model

    typer.echo(str(describe_model(name)))


@app.command()
@reported
def fill(
    texts: Annotated[
        list[str], typer.Argument(metavar="TEXT", help="Texts that hold [MASK].")
    ],
    model: Model = DEFAULT_MODEL,
    top_k: Annotated[
        int, typer.Option("--top-k", "-k", min=1, help="Candidates per blank.")
    ] = 5,
) -> None:
    """Fill the blanks of texts: the likeliest tokens for every [MASK].

    Example: python -m zoo fill "今天天气真[MASK]，我们去公[MASK]散步。"
    """
    import zoo

    with working(f"loading {model}"):
        masked_lm = zoo.load(model, task="masked_lm")
        filled = masked_lm.fill(list(texts), top_k=top_k)
    for text, blanks in zip(texts, filled, strict=True):
        output.print(escape(text), style="bold", soft_wrap=True)
        table = Table()
        table.add_column("blank", justify="right")
        table.add_column("candidates", overflow="fold")
        for number, candidates in enumerate(blanks, start=1):
            row = (f"{escape(token)} {share:.1%}" for token, share in candidates)
            table.add_row(str(number), "  ".join(row))
        output.print(table)


@app.command()
@reported
def embed(
    texts: Annotated[list[str], typer.Argument(metavar="TEXT", help="Texts to embed.")],
    model: Model = DEFAULT_MODEL,
    target: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.npy",
            help="Write the vectors, float32 (texts, hidden_dim), length 1 each.",
        ),
    ] = None,
) -> None:
    """Embed texts, and print which are nearest to each other or write the vectors.

    A model with a pooler gives its pooled output, any other the mean of its hidden
    states.
    """
    import zoo
    from zoo.sentence_vectors import nearest, sentence_vectors

    if target is None and len(texts) < 2:
        raise typer.BadParameter("one text has no neighbours: give more, or --output.")
    if target is not None and target.suffix != ".npy":
        raise typer.BadParameter(f"--output is a .npy file, not {target.name!r}.")
    with working(f"loading {model}"):
        vectors = sentence_vectors(zoo.load(model), zoo.load_tokenizer(model), texts)
    if target is not None:
        write_array(target, vectors)
        typer.echo(
            f"wrote {vectors.shape[0]} vectors of {vectors.shape[1]} to {target}"
        )
        return
    table = Table("text", "nearest", "cosine")
    for text, others in zip(texts, nearest(vectors), strict=True):
        for rank, (index, cosine) in enumerate(others[:3]):
            table.add_row(
                escape(text) if rank == 0 else "", escape(texts[index]), f"{cosine:.3f}"
            )
        table.add_section()
    output.print(table)


def write_array(target: Path, array: Any) -> None:
    """Writes a `.npy` file that is either whole or not there."""
    import numpy as np

    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with open(part, "xb") as file:
            np.save(file, array)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


@app.command()
@reported
def convert(
    source: Annotated[
        str,
        typer.Argument(help="A released model's name, a folder, zip or checkpoint."),
    ],
    target: Annotated[Path, typer.Argument(help="What to make; must not exist.")],
    layout: Annotated[
        Format,
        typer.Option(
            "--format",
            "-f",
            help="tf1 as released, safetensors as the mirrors, keras one file.",
        ),
    ] = Format.TF1,
    dtype: Annotated[
        DType | None,
        typer.Option("--dtype", help="Precision to store; not for keras."),
    ] = None,
) -> None:
    """Write weights in another layout, with the heads they hold and the vocabulary."""
    if layout is Format.KERAS and target.suffix != ".keras":
        raise typer.BadParameter(f"the target of keras is a .keras file, not {target}.")
    if layout is Format.KERAS and dtype is not None:
        raise typer.BadParameter(
            "--dtype is not for keras, which keeps the model's own."
        )
    with working(f"converting {source}"):
        from zoo.conversion import convert as convert_weights

        done = convert_weights(
            source, target, format=layout.value, dtype=dtype.value if dtype else None
        )
    typer.echo(
        f"wrote {done.model.count_params():,} parameters of a "
        f"{type(done.model).__name__} to {done.target}"
    )
    if done.left_behind:
        names = escape(", ".join(done.left_behind))
        messages.print(f"[yellow]not carried over:[/] {names}", soft_wrap=True)


@app.command()
@reported
def verify(
    path: Annotated[
        str,
        typer.Argument(metavar="FOLDER", help="A folder, zip, checkpoint or name."),
    ],
) -> None:
    """Reload weights; report variables, shapes, checksums, architecture and troubles.

    The exit code is 1 if a check fails.
    """
    with working(f"checking {path}"):
        from zoo.verification import verify as verify_weights

        report = verify_weights(path)
    output.print(f"{escape(str(report.path))}", soft_wrap=True, style="bold")
    for title, text in (
        ("format", report.format),
        ("architecture", report.architecture),
        ("numbers", f"{report.parameters:,}" if report.parameters else ""),
    ):
        if text:
            output.print(f"  {title:<13}{escape(text)}", soft_wrap=True)
    for name, size, digest in report.files:
        output.print(f"  {escape(name)}  {size:,} bytes", soft_wrap=True)
        output.print(f"    sha256 {digest}", soft_wrap=True)
    if report.variables:
        table = Table(box=None)
        table.add_column("variables", overflow="fold")
        for heading in ("count", "shape", "dtype"):
            table.add_column(heading, no_wrap=True)
        for group in report.variables:
            shape = "×".join(map(str, group.info.shape)) or "scalar"
            table.add_row(
                escape(group.name), str(group.count), shape, str(group.info.dtype)
            )
        output.print(table)
    for check in report.checks:
        mark = "[green]ok    [/]" if check.passed else "[bold red]FAILED[/]"
        output.print(f"  {mark} {check.name}: {escape(check.finding)}", soft_wrap=True)
    if not report.passed:
        raise typer.Exit(1)


@app.command()
@reported
def records(
    sources: Annotated[
        list[Path], typer.Argument(help="Text files and folders: txt, jsonl, json, gz.")
    ],
    folder: Annotated[
        Path, typer.Option("--output", "-o", help="Where the records go.")
    ],
    model: Model = DEFAULT_MODEL,
    length: Annotated[
        int, typer.Option(min=3, help="Tokens of a row with [CLS] and [SEP].")
    ] = 512,
    segmenter: Annotated[
        str,
        typer.Option(
            help="jieba, spaces (already segmented), characters, module:name."
        ),
    ] = "jieba",
    across_documents: Annotated[
        bool, typer.Option(help="A row goes on with the next document.")
    ] = False,
    fill: Annotated[
        bool, typer.Option(help="A row ends at a word, not at a sentence.")
    ] = False,
    encoding: Annotated[str, typer.Option(help="Of all files.")] = "utf-8",
    processes: Annotated[
        int | None, typer.Option(min=1, help="All processors by default.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the order within a shard.")] = 0,
) -> None:
    """Build records for pretraining from text; an interrupted build goes on."""
    with working("reading the vocabulary"):
        from bert4keras3.training.build_records import build_records
        from zoo import load_tokenizer

        tokenizer = load_tokenizer(model)
    manifest = build_records(
        sources,
        folder,
        tokenizer,
        length,
        segmenter=segmenter,
        processes=processes,
        across_documents=across_documents,
        fill=fill,
        encoding=encoding,
        seed=seed,
    )
    counts = ", ".join(f"{n:,} {name}" for name, n in manifest.counts.items())
    typer.echo(
        f"{len(manifest.shards)} shards in {folder}: {counts.replace('_', ' ')}; "
        f"{manifest.padding:.1%} padding at length {length}"
    )


@app.command("compile")
@reported
def compile_command(
    model: Annotated[str, typer.Argument(help="A name of `list`.")],
    topology: Annotated[
        str, typer.Option(help="Chips, as v5e:2x2, v6e:2x4 or h100:4.")
    ] = "v5e:2x2",
    batch: Annotated[int, typer.Option(min=1, help="Rows on all chips together.")] = 32,
    length: Annotated[int, typer.Option(min=3, help="Tokens of a row.")] = 512,
    mesh: Annotated[
        str | None,
        typer.Option(
            metavar="ROWSxPARTS",
            help="2x2 splits the batch in two and the weights in two.",
        ),
    ] = None,
    objective: Annotated[
        str, typer.Option(help="masked_lm, causal_lm or prefix_lm.")
    ] = "masked_lm",
    optimizer: Annotated[
        str, typer.Option(help="adamw, lamb, tiger or adafactor.")
    ] = "adamw",
    dtype: Annotated[str, typer.Option(help="Of the model.")] = "mixed_bfloat16",
    recompute: Annotated[
        str | None,
        typer.Option(help="attention or layer: less memory, more work."),
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="As num_layers=12."),
    ] = None,
    largest: Annotated[
        bool, typer.Option("--largest", help="Also find the largest batch that fits.")
    ] = False,
) -> None:
    """Plan pretraining: compile a step for chips that are not here. Needs libtpu.

    The exit code is 1 if the step does not fit.
    """
    # Keras reads its backend once; JAX must not look for chips of this machine.
    os.environ["KERAS_BACKEND"] = "jax"
    os.environ["JAX_PLATFORMS"] = "cpu"
    sizes = numbers(mesh, "--mesh") if mesh else None
    if sizes and len(sizes) != 2:
        raise typer.BadParameter("--mesh is two numbers, as 2x2.")
    overrides = dict(setting(item) for item in override or ())
    with working(f"compiling {model} for {topology}"):
        from zoo.compiling import plan

        found = plan(
            model,
            batch,
            length,
            topology,
            sizes,
            objective,
            optimizer,
            dtype,
            recompute,
            find_largest=largest,
            **overrides,
        )
    step = found.step
    table = Table(show_header=False, box=None)
    for title, text in (
        ("model", f"{model}, {found.parameters:,} parameters, {optimizer}, {dtype}"),
        ("batch", f"{found.batch} x {length} tokens, {objective}"),
        ("chips", f"{step.chips} x {step.device}"),
        ("memory per chip", f"{step.peak / 2**20:,.0f} MiB at its peak"),
        ("  of it state", f"{step.state / 2**20:,.0f} MiB"),
        ("  of it the step's", f"{step.temporaries / 2**20:,.0f} MiB"),
        ("  there is", f"{step.capacity / 2**20:,.0f} MiB" if step.capacity else "?"),
        ("work per chip", f"{step.flops / 1e9:,.0f} GFLOP" if step.flops else "?"),
        (
            "bytes per chip",
            f"{step.bytes_accessed / 1e9:,.1f} GB" if step.bytes_accessed else "?",
        ),
        (
            "collectives",
            ", ".join(f"{n} {name}" for name, n in step.collectives.items()) or "none",
        ),
        ("compiled in", f"{step.seconds:.0f} s"),
        ("largest batch", str(found.largest) if found.largest else ""),
    ):
        if text:
            table.add_row(title, text)
    output.print(table)
    for problem in step.problems("bf16" if dtype == "mixed_bfloat16" else None):
        messages.print(f"[yellow]{escape(problem)}[/]", soft_wrap=True)


def numbers(text: str, option: str) -> list[int]:
    """Reads 2x4 as two numbers."""
    parts = text.split("x")
    if not all(part.isdecimal() and int(part) for part in parts):
        raise typer.BadParameter(f"{option} is numbers with an x between, as 2x2.")
    return [int(part) for part in parts]


def setting(text: str) -> tuple[str, Any]:
    """Reads num_layers=12; a value that is no number, true or false stays a text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"--set is NAME=VALUE, not {text!r}.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


if __name__ == "__main__":
    app(prog_name="python -m zoo")
