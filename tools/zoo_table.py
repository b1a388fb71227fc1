"""Write the zoo's table into the READMEs and the documentation.

    python tools/zoo_table.py           rewrites the files
    python tools/zoo_table.py --check   changes nothing; exit code 1 if one is stale

The table stands between two comments; everything else in the files is left alone.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from zoo.markdown import CHINESE, ENGLISH, zoo_table
from zoo.presets import PRESETS

ROOT = Path(__file__).parents[1]
TARGETS = {
    "README.md": ENGLISH,
    "README_zh.md": CHINESE,
    "docs/reference/zoo.md": ENGLISH,
}
BLOCK = re.compile(r"(<!-- zoo table -->\n).*?(<!-- end of zoo table -->)", re.DOTALL)


def with_table(text: str, table: str) -> str:
    """Returns `text` with the table between its two comments."""
    if len(BLOCK.findall(text)) != 1:
        raise ValueError(
            "The file must hold the line '<!-- zoo table -->' once, and below it the "
            "line '<!-- end of zoo table -->'."
        )
    return BLOCK.sub(lambda match: f"{match[1]}{table}{match[2]}", text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing")
    check = parser.parse_args().check
    stale = []
    for name, wording in TARGETS.items():
        path = ROOT / name
        old = path.read_text(encoding="utf-8")
        new = with_table(old, zoo_table(PRESETS.values(), wording))
        if old != new:
            stale.append(name)
            if not check:
                path.write_text(new, encoding="utf-8", newline="\n")
    if stale:
        print(("stale: " if check else "rewritten: ") + ", ".join(stale))
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
