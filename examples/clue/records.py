"""Reading and writing CLUE's files; an error names the file and the line."""

import json
import os
from pathlib import Path

import numpy as np

# Folders as the official zips are called, where that is not the name of the task.
FOLDERS = {"wsc": ("cluewsc2020_public", "cluewsc2020")}


class Examples:
    """One split of a task.

    Args:
        x: texts as the task takes them: a list, or a pair of lists.
        y: labels as the task takes them; `None` for a test split.
        records: what the file says of each, for scores and submissions.
    """

    def __init__(self, x, y, records):
        self.x, self.y, self.records = x, y, records

    def __len__(self):
        return len(self.records)

    def sample(self, number):
        """So many examples, the same at each call; files may be sorted by label."""
        order = np.random.default_rng(0).permutation(len(self))[:number]

        def pick(column):
            return [column[row] for row in order]

        x = tuple(map(pick, self.x)) if isinstance(self.x, tuple) else pick(self.x)
        return Examples(x, None if self.y is None else pick(self.y), pick(self.records))


def find_folder(data, task):
    """The folder of a task's files: `data` itself, or one in it with the task's name.

    Raises:
        FileNotFoundError: there is none.
    """
    data = Path(data)
    names = [task, f"{task}_public", *FOLDERS.get(task, ())]
    for folder in [data / name for name in names] + [data]:
        if folder.is_dir() and any(folder.glob("*train*.json")):
            return folder
    raise FileNotFoundError(
        f"No files of {task} in {data}. Expected train.json and so on there, or in a "
        f"folder {' or '.join(names)} of it. Fetch them by: python "
        f"examples/clue/download.py --tasks {task} --data {data}"
    )


def read_lines(path, fields, optional=()):
    """Records of a file with one JSON object per line.

    Args:
        path: the file.
        fields: name -> type of what each record must have.
        optional: more names, which may be absent.

    Raises:
        ValueError: no record, a line that is no JSON object, or a field that is absent
            or of another type; the message names file and line.
    """
    records = []
    # Not `splitlines`: some texts hold U+2028, which it takes for the end of a line.
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number}: no JSON: {error}") from error
            check_fields(record, fields, f"{path}, line {number}")
            records.append(record)
    if not records:
        raise ValueError(f"{path} has no record.")
    return records


def read_json(path, kind):
    """The content of a file that is one JSON value.

    Raises:
        ValueError: it is not, or is empty, or of another type than `kind`.
    """
    with open(path, encoding="utf-8") as file:
        try:
            content = json.load(file)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {error.lineno}: no JSON: {error}") from None
    if not isinstance(content, kind) or not content:
        raise ValueError(
            f"{path} must hold a JSON {kind.__name__} that is not empty. Received "
            f"{type(content).__name__} of length {len(content)}."
        )
    return content


def check_fields(record, fields, where):
    """Raise a `ValueError` that begins with `where` for an absent or wrong field."""
    if not isinstance(record, dict):
        raise ValueError(f"{where}: expected a JSON object, received {record!r:.80}.")
    for name, kind in fields.items():
        if name not in record:
            raise ValueError(
                f"{where}: no field {name!r}. There are: {', '.join(record) or 'none'}."
            )
        if not isinstance(record[name], kind):
            raise ValueError(
                f"{where}: {name!r} must be a {kind.__name__}, received "
                f"{record[name]!r:.80}."
            )


def labels_of(records, path, known):
    """The field `label` of each record; `None` for a split without labels.

    Raises:
        ValueError: a label that is not `known`, or some records with one and some
            without.
    """
    if not any("label" in record for record in records):
        return None
    for number, record in enumerate(records, 1):
        if record.get("label") not in known:
            raise ValueError(
                f"{path}, record {number}: label {record.get('label')!r} is none of "
                f"{', '.join(known)}."
            )
    return [record["label"] for record in records]


def write_whole(path, text):
    """Write a file that appears whole or not at all."""
    partial = Path(f"{path}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def as_lines(records):
    """Records as text, one JSON object per line."""
    return "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records)


def as_json(content):
    """One JSON value as text."""
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"
