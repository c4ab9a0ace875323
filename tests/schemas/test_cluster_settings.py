import pytest
from pydantic import ValidationError

from schemas.cluster_settings import ClusterSettings, SlurmSettings

BAD_ADDRESSES = ("udp://there:8786", "tcp://:8786", "tcp://there:port", "tcp://there:", "tcp:there:8786")
FILES = {"tls_ca": "ca.pem", "tls_cert": "node.pem", "tls_key": "node.key"}


def test_one_machine_unless_told():
    assert (ClusterSettings().kind, ClusterSettings().encrypted) == ("local", False)


@pytest.mark.parametrize("address", ["tcp://10.0.0.1:8786", "tcp://[::1]:8786"])
def test_addresses_without_encryption(address):
    assert not ClusterSettings(kind="address", address=address).encrypted


@pytest.mark.parametrize("resources", [{"inference_resource": "GPU"}, {"other_resource": "CPU"}, {}])
def test_workers_of_a_cluster_that_is_there_may_be_of_a_kind(resources):
    given = {"kind": "address", "address": "tcp://there:8786"} | resources
    assert ClusterSettings(**given).model_dump(exclude_unset=True) == given


def test_jobs_may_talk_under_encryption_without_an_address():
    assert not ClusterSettings(kind="slurm").encrypted
    assert not ClusterSettings(kind="slurm", **FILES).encrypted


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
        *(({"kind": "address", "address": address}, "must be tcp://HOST:PORT") for address in BAD_ADDRESSES),
        *(({"kind": "slurm", name: "x.pem"}, "give all three or none") for name in FILES),
        *(({"kind": "slurm"} | FILES | {name: None}, "give all three or none") for name in FILES),
        ({"kind": "slurm", "address": "tcp://there:8786"}, "cluster.address needs kind = 'address', not 'slurm'"),
        ({"inference_resource": ""}, "at least 1 character"),
        ({"other_resource": ""}, "at least 1 character"),
        ({"inference_resource": "GPU", "other_resource": "CPU"}, "need kind = 'address'"),
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


@pytest.mark.parametrize(
    ("key", "last", "beyond"),
    [
        ("cores", 1, 0), ("memory_gib", 5e-324, 0.0), ("minimum_jobs", 1, 0), ("maximum_jobs", 1, 0),
        ("start_timeout_s", 5e-324, 0.0),
    ],
)  # fmt: skip
def test_a_job_has_more_than_nothing(key, last, beyond):
    assert getattr(SlurmSettings(**{key: last}), key) == last
    with pytest.raises(ValidationError, match=key):
        SlurmSettings(**{key: beyond})


def test_settings_do_not_change():
    for section, key in ((ClusterSettings(), "kind"), (SlurmSettings(), "cores")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(section, key, getattr(section, key))


def test_the_range_of_jobs_goes_up():
    assert SlurmSettings(minimum_jobs=8).maximum_jobs == 8
    with pytest.raises(ValidationError, match="minimum_jobs = 9 is more than maximum_jobs = 8"):
        SlurmSettings(minimum_jobs=9)


def test_every_setting_says_what_it_is():
    for section in (ClusterSettings, SlurmSettings):
        assert all(field.description or name == "slurm" for name, field in section.model_fields.items())
