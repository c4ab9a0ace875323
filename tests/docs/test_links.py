"""Links between pages, paths of files and names of modules on them, and mentions of pages elsewhere."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
CODE_FILE = re.compile(r"`((?:flows|kernels|stages|schemas|benchmarks|tests|deploy|examples)/[\w/.-]*[\w/])`")
MODULE = re.compile(r"python3? -m ((?:benchmarks|flows)(?:\.\w+)+|benchmarks)")
MENTION = re.compile(r"docs/[\w/]+\.(?:md|json)")


def prose(path):
    """Text of a page without its blocks of code."""
    return FENCE.sub("", path.read_text())


def anchors(path):
    """Anchors of a page's headings, as GitHub makes them."""
    found = []
    for heading in re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        anchor = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        found.append(f"{anchor}-{found.count(anchor)}" if anchor in found else anchor)
    return found


def broken(path):
    """Links of a page that lead nowhere."""
    for target in LINK.findall(prose(path)):
        if "://" in target or target.startswith("mailto:"):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        if not there.exists() or (anchor and anchor not in anchors(there)):
            yield target


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path):
    assert list(broken(path)) == []


def test_a_broken_link_is_noticed(tmp_path):
    (tmp_path / "there.md").write_text("# What it is\n\n```\n# no heading\n```\n")
    page = tmp_path / "page.md"
    page.write_text("[a](there.md#what-it-is) [b](there.md#no-heading) [c](missing.md) [d](https://example.org/x)\n")
    assert list(broken(page)) == ["there.md#no-heading", "missing.md"]


@pytest.mark.parametrize("path", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.stem)
def test_files_and_modules_on_a_page_exist(path):
    text = path.read_text()
    assert [name for name in CODE_FILE.findall(text) if not (ROOT / name).exists()] == []
    modules = [ROOT / name.replace(".", "/") for name in MODULE.findall(text)]
    assert [module for module in modules if not module.with_suffix(".py").exists() and not module.is_dir()] == []


def test_pages_that_are_mentioned_elsewhere_exist():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    texts = [ROOT / name for name in listed if Path(name).suffix in {".py", ".md", ".j2", ".toml", ".yaml", ".yml", ""}]
    mentioned = {
        (name, str(path.relative_to(ROOT)))
        for path in texts
        if path.is_file() and path != Path(__file__)
        for name in MENTION.findall(path.read_text(errors="ignore").replace("/docs/program_interface", ""))
    }
    assert [one for one in sorted(mentioned) if not (ROOT / one[0]).exists()] == []


def test_the_index_names_every_page():
    docs = ROOT / "docs"
    linked = {(docs / target.partition("#")[0]).resolve() for target in LINK.findall((docs / "index.md").read_text())}
    assert {path for path in docs.rglob("*.md") if path != docs / "index.md"} <= linked
