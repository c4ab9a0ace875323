"""Tables and sections of docs/measured that commands write:
``python -m benchmarks.house.measured [PAGE ...] [--only WORD]``.

A page names the command around what it wrote:

    <!-- measured by: python -m benchmarks.measurement.pulls --trails 3000 -->
    Measured 2026-11-30.

    | trails | n | flux |
    ...
    <!-- end -->

The command runs again, and the tables among what it prints replace those of the page, with today's date and, where the
block names weights, their digests. JSON objects with the same keys on lines below each other are a table, too. Of a
command that prints a section by `benchmarks.support.page.show`, all of that section goes into the page as it is. Paths
outside the repository are environment variables in the command. A command that fails or prints no table leaves its
block as it is.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from itertools import groupby

from benchmarks.support.command_line import command_line
from benchmarks.support.page import ROOT, SECTION, measured_with, table

PAGES = ROOT / "docs" / "measured"
BLOCK = re.compile(r"<!-- measured by: (?P<command>.*?) -->\n(?P<held>.*?)<!-- end -->", re.DOTALL)
WEIGHTS = re.compile(r"([\w/]+) sha256:[0-9a-f]{12}\b")


def headings(line):
    """Return what makes lines below each other one table: "|", or the keys of a JSON object; None for other lines."""
    if line.startswith("|"):
        return "|"
    try:
        said = json.loads(line)
    except ValueError:
        return None
    return tuple(said) if isinstance(said, dict) else None


def words(value):
    """Return a value of a JSON object as a cell."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    return " to ".join(map(str, value)) if isinstance(value, list) else str(value)


def tables(output):
    """Return the tables in a text as Markdown, with an empty line between two."""
    found = []
    for named, run_of in groupby(output.splitlines(), headings):
        if named == "|":
            found.append("\n".join(run_of))
        elif named:
            found.append(table(named, [[words(value) for value in json.loads(line).values()] for line in run_of]))
    return "\n\n".join(found)


def run(command, weights):
    """Run a command of a page at the root of the repository, and return its section, or its tables below a heading.

    Raises
    ------
    RuntimeError
        The command fails, or prints no table.
    """
    program, *rest = shlex.split(os.path.expandvars(command))
    done = subprocess.run(
        [sys.executable if program == "python" else program, *rest], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    found, section = tables(done.stdout), done.stdout.partition(f"{SECTION}\n")[2].strip()
    if done.returncode or not found:
        raise RuntimeError(f"{command}: exit code {done.returncode}, {'some' if found else 'no'} tables.")
    return section or f"{measured_with(weights)}\n\n{found}"


def measure(page, only=""):
    """Run the commands of a page that hold a word, and write what they print into it, each as it ends.

    Returns
    -------
    list of str
        What failed.
    """
    failed = []
    for block in list(BLOCK.finditer(page.read_text())):
        if only not in block["command"]:
            continue
        print(f"{page.name}: {block['command']}", flush=True)
        try:
            found = run(block["command"], WEIGHTS.findall(block["held"]))
        except RuntimeError as error:
            failed.append(str(error))
            continue
        print(f"\n{found}\n", flush=True)
        held = f"<!-- measured by: {block['command']} -->\n{found}\n<!-- end -->"
        page.write_text(page.read_text().replace(block[0], held))
    return failed


def main():
    """Measure again what the pages name."""
    given = command_line(
        __doc__, ("pages*", "pages; all of docs/measured by default"), only=("", "of commands that hold this word")
    )
    failed = [one for page in given.pages or sorted(PAGES.glob("*.md")) for one in measure(page, given.only)]
    sys.exit("\n".join(failed) or None)


if __name__ == "__main__":
    main()
