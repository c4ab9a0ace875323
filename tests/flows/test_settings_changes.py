from flows.settings_changes import settings_changes
from schemas.settings import Settings


def recorded(**sections):
    return Settings(**sections).model_dump(mode="json")


def test_defaults_are_no_changes():
    assert settings_changes(recorded()) == {}


def test_the_environment_is_no_default(monkeypatch):
    before = recorded()
    monkeypatch.setenv("NIGHTSTRIDE_DETECT__STRIDE", "9")
    assert settings_changes(before) == {}
    assert settings_changes(recorded()) == {"detect.stride": 9}


def test_what_was_set_is_named_however_deep_it_is():
    made = recorded(
        detect={"stride": 5},
        fits={"visit": {"keyword": "EXPID"}},
        inject={"snr": (4, 9)},
        cluster={"slurm": {"cores": 3}},
    )
    assert settings_changes(made) == {
        "detect.stride": 5, "fits.visit.keyword": "EXPID", "inject.snr": [4.0, 9.0], "cluster.slurm.cores": 3,
    }  # fmt: skip


def test_what_an_older_version_knew_is_told():
    assert settings_changes({"detect": {"stride": 7, "gone": None}, "old": {}}) == {"detect.gone": None, "old": {}}
