import json
import re
from pathlib import Path

from schemas.quality import BandQuality
from schemas.summary import RunSummary

PAGE = (Path(__file__).parents[2] / "docs/use/running.md").read_text()


def test_the_summary_has_every_key_and_no_other():
    (text,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    shown = json.loads(text)
    assert shown.keys() == RunSummary.model_fields.keys()
    made = RunSummary.model_validate(shown)
    assert made.model_dump(mode="json") == shown
    ((band,),) = made.quality.values()
    assert isinstance(band, BandQuality)
    assert made.exposures.seen == made.exposures.done
