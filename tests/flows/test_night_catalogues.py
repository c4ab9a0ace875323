import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from flows import night_catalogues
from flows.night_catalogues import with_catalogues
from flows.progress import Progress
from schemas.settings import Settings
from schemas.summary import ExposureCounts, RunSummary
from tests.flows.whole_night_support import NIGHT, PIPELINE, publish

COUNTS = ExposureCounts(seen=0, done=0, skipped=0, quarantined=0, failed=0)
EMPTY = RunSummary(
    exposures=COUNTS, windows=0, unscored=0, detections=0, not_run={}, seconds={}, report=None, nights=(NIGHT,)
)


@pytest.fixture
def brought(tmp_path, monkeypatch):
    monkeypatch.setattr(night_catalogues, "PIPELINE", PIPELINE)

    def bring(*values):
        for visit, one in enumerate(values):
            publish(tmp_path, visit, one)
        return with_catalogues(EMPTY, tmp_path, Settings(), Progress(Console(file=io.StringIO()), 0))

    return bring


def test_counts_what_is_published_now_and_what_is_kept(brought):
    first = brought([1.0, 2.0], [3.0])
    assert first.catalogues == {"thing": 3, "shapes": 3, "total": 1}
    assert first.seconds.keys() == {"objects"}
    again = brought()
    assert again.catalogues == first.catalogues
    assert again.seconds == {}
    assert (first.exit_code, again.exit_code) == (0, 0)


def test_a_failing_stage_makes_the_exit_code_1(brought):
    summary = brought([-1.0])
    assert [one.code for one in summary.night_failed] == ["ZeroDivisionError"]
    assert summary.exit_code == 1
    assert summary.catalogues == {"thing": 1, "shapes": 1}


def test_lists_what_does_not_run(brought):
    assert brought(None).not_run["gather"] == "no seen: stage see did not run"
    assert "nothing was seen" in brought([]).not_run["gather"]
    assert "nothing was seen" in brought().not_run["gather"]


def test_planning_loads_neither_torch_nor_dask_nor_zarr(tmp_path):
    publish(tmp_path, 1, None)
    code = (
        "import io, sys\nfrom pathlib import Path\nfrom flows.night_plan import plan_nights\n"
        "from schemas.settings import Settings\nfrom stages import PIPELINE\n"
        f"(work,) = plan_nights(['{NIGHT}'], Path({str(tmp_path)!r}), Settings(), PIPELINE)\n"
        "print(work.outdated, sorted({'torch', 'dask', 'distributed', 'prefect', 'zarr'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert run.stdout.split() == ["False", "[]"]
