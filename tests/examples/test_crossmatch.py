import runpy
from pathlib import Path

import pandas as pd
import pytest

from flows.results.export import export_hats
from flows.storage.catalog_store import CatalogStore
from schemas.objects import OBJECT
from tests.support.export import publish

SCRIPT = Path(__file__).parents[2] / "examples" / "crossmatch.py"


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Run the script in this process, which loads LSDB once, on a catalogue in ``mine.csv``."""
    arguments = [SCRIPT, tmp_path / "hats", tmp_path / "mine.csv", "--to", tmp_path / "matches.csv"]
    monkeypatch.setattr("sys.argv", [str(one) for one in arguments])
    return lambda: runpy.run_path(str(SCRIPT), run_name="__main__")


@pytest.mark.filterwarnings("ignore")
def test_finds_the_objects_of_a_small_catalogue_and_no_others(tmp_path, script, capsys):
    pytest.importorskip("lsdb", reason="the extra hats is not installed")
    pytest.importorskip("hats_import", reason="the extra hats is not installed")
    whole = publish(tmp_path)
    export_hats(tmp_path / "hats", OBJECT, CatalogStore(tmp_path).list(OBJECT))
    mine = whole.slice(10, 6).select(["objectId", "ra", "dec"]).to_pandas().rename(columns={"objectId": "name"})
    mine.loc[:3, "dec"] += 0.4 / 3600
    mine.loc[4:, "dec"] += 5 / 3600
    mine.to_csv(tmp_path / "mine.csv", index=False)
    script()
    assert "4 matches" in capsys.readouterr().out
    found = pd.read_csv(tmp_path / "matches.csv")
    own, theirs = ("objectId", "name") if "objectId" in found else ("objectId_object", "name")
    assert sorted(found[own]) == sorted(found[theirs]) == sorted(mine["name"][:4])
    assert found["_dist_arcsec"].between(0.39, 0.41).all()
    far = pd.DataFrame({"name": [1], "ra": [(mine["ra"].mean() + 180) % 360], "dec": [-mine["dec"].mean()]})
    far.to_csv(tmp_path / "mine.csv", index=False)
    script()
    assert "0 matches" in capsys.readouterr().out
    far.rename(columns={"ra": "RA"}).to_csv(tmp_path / "mine.csv", index=False)
    with pytest.raises(SystemExit, match=r"has no columns \['ra'\], only \['name', 'RA', 'dec'\]"):
        script()
