import pytest
import typer

from flows.commands.conclusion import conclude
from schemas.summary import RunSummary, Trouble
from tests.flows.observe.log_support import lines_of


def concluded(as_json, failed):
    count = {"seen": 2, "done": 2 - failed, "skipped": 0, "quarantined": 0, "failed": failed}
    troubles = tuple(Trouble(uri=f"{n}.fits", code="deadline", message="late") for n in range(failed))
    summary = RunSummary(
        exposures=count, windows=7, unscored=0, detections=3, not_run={}, seconds={}, report=None, failed=troubles
    )
    with pytest.raises(typer.Exit) as ended:
        conclude(summary, as_json)
    return summary, ended.value.exit_code


@pytest.mark.parametrize(("failed", "exit_code"), [(0, 0), (2, 1)])
def test_the_summary_decides_the_exit_code(failed, exit_code):
    assert concluded(False, failed)[1] == exit_code


def test_machines_get_the_summary_alone_on_standard_output(capsys):
    summary, _ = concluded(True, 1)
    shown = capsys.readouterr()
    assert RunSummary.model_validate_json(shown.out) == summary
    assert "failed: late" in shown.err


def test_people_get_the_table_on_standard_output(capsys):
    concluded(False, 1)
    shown = capsys.readouterr()
    assert "failed: late" in shown.out
    assert shown.err == ""


def test_json_logs_end_with_the_summary_and_nothing_else_is_on_standard_error():
    (line,) = lines_of(
        "from flows.observe.log import log_as_json\n"
        "log_as_json()\n"
        "from tests.flows.commands.test_conclusion import concluded\n"
        "concluded(True, 1)\n"
    )
    assert (line["event"], line["level"], line["exit_code"]) == ("run ended", "warning", 1)
    assert line["summary"]["exposures"]["failed"] == 1
