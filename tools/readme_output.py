"""Run the code blocks of the READMEs and write what they print below them.

    python tools/readme_output.py

A `python` block runs in the namespace of the blocks above it, as a reader would do.
Where a `text` block follows, its content is replaced. A block below the comment
`<!-- not run: reason -->` is left alone.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
READMES = ("README.md", "README_zh.md")
BLOCK = re.compile(
    r"(?P<skip><!-- not run: [a-z ]+ -->\n)?```python\n(?P<code>.*?)```"
    r"(?:\n\n```text\n(?P<output>.*?)```)?",
    re.DOTALL,
)


def run_blocks(text: str, name: str) -> Iterator[tuple[re.Match[str], str]]:
    """Runs the blocks of a page.

    Args:
        text: the page, in Markdown.
        name: what tracebacks call it.

    Yields:
        Each block that was run, and what it printed.
    """
    namespace = {"__name__": "__main__"}
    for block in BLOCK.finditer(text):
        if block["skip"]:
            continue
        # Empty lines put the line numbers of a traceback right.
        lines = "\n" * (text[: block.start("code")].count("\n"))
        code = compile(lines + block["code"], name, "exec")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, namespace)
        yield block, printed.getvalue()


def with_outputs(text: str, name: str) -> str:
    """Returns a page with the output of its blocks brought up to date."""
    for block, printed in reversed(list(run_blocks(text, name))):
        if block["output"] is not None:
            start, end = block.span("output")
            text = text[:start] + printed + text[end:]
    return text


def main() -> None:
    for name in READMES:
        path = ROOT / name
        old = path.read_text(encoding="utf-8")
        new = with_outputs(old, name)
        if new != old:
            path.write_text(new, encoding="utf-8", newline="\n")
            print(f"rewritten: {name}")


if __name__ == "__main__":
    main()
