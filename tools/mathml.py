"""A hook of mkdocs that turns the equations of a page into MathML while it builds.

Browsers draw MathML themselves, so the pages need no script and no network.
"""

from __future__ import annotations

import html
import re
from typing import Any

# What the arithmatex extension wraps an equation in, with generic delimiters.
EQUATION = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">'
    r"\\(?P<kind>[(\[])(?P<tex>.*?)\\[)\]]</(?P=tag)>",
    re.DOTALL,
)


def on_page_content(content: str, **event: Any) -> str:
    """Replaces every equation of a page's HTML by MathML."""
    from latex2mathml.converter import convert

    def replace(match: re.Match[str]) -> str:
        display = "block" if match["kind"] == "[" else "inline"
        return convert(html.unescape(match["tex"]).strip(), display=display)

    return EQUATION.sub(replace, content)
