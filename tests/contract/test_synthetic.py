"""Synthetic streaks stay where they belong."""

import ast
from pathlib import Path

import pytest

from flows.pipeline.graph import resolve
from schemas.dataset import TableOf
from schemas.dia_source import DIA_SOURCE
from schemas.errors import Misconfigured
from schemas.injection import INJECTED, INJECTION
from schemas.negative import NEGATED, NEGATIVE
from schemas.pixels import DIFFERENCE, MASK
from schemas.stage import Stage
from stages import PIPELINE

ROOT = Path(__file__).parents[2]
READERS = {
    "schemas.injection": {"stages/inject.py", "stages/choose_injected.py", "flows/results/evaluation/recovery.py"},
    "schemas.negative": {"stages/negate.py", "stages/count_negated.py", "flows/results/quality/measure.py"},
}
"""Who may know each dataset: it is made in the one, and added up in the other."""


def reads(stage):
    return (*stage.needs, *stage.optional)


def test_no_stage_reads_synthetic_rows_directly_or_through_others():
    tainted = {stage.gives.name for stage in PIPELINE if isinstance(stage.gives, TableOf) and stage.gives.synthetic}
    assert tainted == {INJECTED.name, INJECTION.name, NEGATED.name, NEGATIVE.name}
    while more := {s.gives.name for s in PIPELINE if {one.name for one in reads(s)} & tainted} - tainted:
        tainted |= more
    assert tainted == {INJECTED.name, INJECTION.name, NEGATED.name, NEGATIVE.name}


def test_a_run_with_a_stage_that_does_is_refused_before_any_work():
    alert = Stage("package_alerts", "1", "night", (DIA_SOURCE, INJECTION), TableOf("alert", DIA_SOURCE.schema), print)
    with pytest.raises(Misconfigured, match="stage 'package_alerts': reads 'injection', whose rows are synthetic"):
        resolve((*PIPELINE, alert), {DIFFERENCE.name, MASK.name})


@pytest.mark.parametrize("module", READERS)
def test_only_who_makes_it_and_who_adds_it_up_knows_the_dataset(module):
    knowing = set()
    for folder in ("kernels", "stages", "flows"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text()
            tree = ast.parse(text if module in text else "")
            imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
            if any(node.module == module for node in imports):
                knowing.add(path.relative_to(ROOT).as_posix())
    assert knowing == READERS[module]


def test_what_makes_them_depends_on_the_search_through_the_detections():
    for made in (INJECTION, NEGATIVE):
        assert DIA_SOURCE in next(stage for stage in PIPELINE if stage.gives == made).needs
