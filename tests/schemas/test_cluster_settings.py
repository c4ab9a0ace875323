import pytest
from pydantic import ValidationError

from schemas.cluster_settings import ClusterSettings, SlurmSettings

FILES = {"tls_ca": "ca.pem", "tls_cert": "node.pem", "tls_key": "node.key"}


def test_one_machine_unless_told():
    assert (ClusterSettings().kind, ClusterSettings().encrypted) == ("local", False)


@pytest.mark.parametrize("address", ["tcp://10.0.0.1:8786", "tcp://[::1]:8786"])
def test_addresses_without_encryption(address):
    assert not ClusterSettings(kind="address", address=address).encrypted


def test_an_address_with_encryption_comes_with_all_its_files():
    assert ClusterSettings(kind="address", address="tls://there:8786", **FILES).encrypted


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"kind": "address"}, "needs cluster.address"),
        ({"address": "tcp://there:8786"}, "cluster.address needs kind = 'address', not 'local'"),
        (FILES, "need kind = 'address' or 'slurm'"),
        ({"kind": "address", "address": "there:8786"}, "must be tcp://HOST:PORT or tls://HOST:PORT"),
        ({"kind": "address", "address": "tcp://there"}, "must be tcp://HOST:PORT or tls://HOST:PORT"),
        ({"kind": "address", "address": "tls://there:8786"}, "needs tls_ca, tls_cert and tls_key"),
        ({"kind": "address", "address": "tcp://there:8786", **FILES}, "uses no tls_ca, tls_cert and tls_key"),
        ({"kind": "slurm", "tls_ca": "ca.pem"}, "give all three or none"),
        ({"kind": "slurm", "inference_resource": "GPU"}, "need kind = 'address'"),
        ({"other_resource": "CPU"}, "need kind = 'address'"),
        ({"kind": "kubernetes"}, "'local', 'address' or 'slurm'"),
        ({"slurm": {"surprise": 1}}, "surprise"),
    ],
)
def test_what_does_not_go_together_is_refused(given, says):
    with pytest.raises(ValidationError, match=says):
        ClusterSettings(**given)


@pytest.mark.parametrize("walltime", ["01:00:00", "2-12:30:00"])
def test_walltime_is_that_of_sbatch(walltime):
    assert SlurmSettings(walltime=walltime).walltime == walltime


@pytest.mark.parametrize("walltime", ["1h", "60", "01:00:00; rm -rf /"])
def test_walltime_is_nothing_else(walltime):
    with pytest.raises(ValidationError, match="walltime"):
        SlurmSettings(walltime=walltime)


def test_the_range_of_jobs_goes_up():
    with pytest.raises(ValidationError, match="minimum_jobs = 9 is more than maximum_jobs = 8"):
        SlurmSettings(minimum_jobs=9)


def test_every_setting_says_what_it_is():
    for section in (ClusterSettings, SlurmSettings):
        assert all(field.description or name == "slurm" for name, field in section.model_fields.items())
