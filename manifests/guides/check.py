"""Runs the code of a guide as it stands there, in the present folder; what the guide shows as output must be printed.

    check.py GUIDE [PACKAGE]

Python that imports PACKAGE, or a file that does, is left out. Code is in blocks of `sh`, `python` and `sql` (for DuckDB). A block behind `<!-- file: NAME -->` is also saved as NAME, for others to import. A
`text` block is what the block before it prints, where `...` stands for anything.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import duckdb
import pyarrow.parquet as pq


def blocks(text):
    """Line, language, name of the file if it has one, and text of each block."""
    pattern = re.compile(r"^(?:<!-- file: (\S+) -->\n)?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    for found in pattern.finditer(text):
        yield text.count("\n", 0, found.start()) + 1, found[2], found[1], found[3]


def run(language, name, code):
    """What a block prints. An exception or another exit code than 0 ends everything."""
    if language == "sql":
        return str(duckdb.sql(code))
    if name:
        Path(name).write_text(code)
    command = ["sh", "-euc", code] if language == "sh" else [sys.executable, name] if name else [sys.executable, "-c", code]
    # Not a pipe: into one `prep` would write the rows themselves.
    with tempfile.TemporaryFile() as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, timeout=600)
        file.seek(0)
        output = file.read().decode()
    if done.returncode != 0:
        sys.exit(f"exit code {done.returncode} of\n{code}\n{output}")
    return output


def main(guide, without=None):
    printed = {"sh": [], "python": [], "sql": []}
    output, absent = "", [without]
    for line, language, name, code in blocks(Path(guide).read_text()):
        if language == "python" and re.search(rf"^(import|from) ({'|'.join(map(str, absent))})\b", code, re.MULTILINE):
            output = None
            absent += [Path(name).stem] if name else []
        elif language in printed:
            output = run(language, name, code)
            printed[language].append(output)
        elif language == "text" and output is not None:
            for shown in code.splitlines():
                pattern = ".*".join(map(re.escape, shown.split("...")))
                if not re.search(f"^{pattern}$", output, re.MULTILINE):
                    sys.exit(f"{guide}:{line}: `{shown}` is not printed, but\n{output}")

    # The rows that programs have seen are those of the manifests, and those of the files.
    rows = {}
    for name in ("movies", "criteo"):
        manifest = json.loads(Path(f"{name}.json").read_text())
        rows[name] = manifest["rows"]
        for part, count in (("batches", "rows"), ("holdout_batches", "holdout_rows")):
            found = [pq.read_metadata(Path(manifest["base"], batch["key"])).num_rows for batch in manifest[part]]
            assert found == [batch["rows"] for batch in manifest[part]] and sum(found) == manifest[count], name
    seen = sum(str(rows["movies"]) in output for output in printed["python"] + printed["sql"])
    most, scripts = (4, 5) if without is None else (3, 3)
    assert seen >= most, f"{seen} programs have seen {rows['movies']} ratings; pyarrow, polars, PyTorch and DuckDB should"
    assert len(printed["python"]) >= scripts and len(printed["sql"]) >= 3, "blocks of code are not found"
    print(f"{guide}: {sum(map(len, printed.values()))} blocks of code do what is written there")


main(*sys.argv[1:])
