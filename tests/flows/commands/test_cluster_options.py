from flows.commands.cluster_options import cluster_overrides
from flows.settings_file import load_settings


def test_a_scheduler_on_the_command_line_goes_before_the_kind_of_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nightstride.toml").write_text('[cluster]\nkind = "slurm"\n[execution]\nworkers = 3\n')
    assert load_settings(None, cluster_overrides(None, None)).cluster.kind == "slurm"
    settings = load_settings(None, cluster_overrides("tcp://there:8786", 5))
    assert (settings.cluster.kind, settings.cluster.address) == ("address", "tcp://there:8786")
    assert settings.execution.workers == 5
