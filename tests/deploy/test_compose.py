"""The compose file, against the schema of the Compose Specification, our container file, and Prefect's own settings."""

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from prefect.settings import Settings as PrefectSettings
from pydantic import ValidationError

from flows.nights.services.folder import POOL
from schemas.settings import Settings

FOLDER = Path(__file__).parents[2] / "deploy"
FILE = FOLDER / "compose.yaml"
COMPOSE = yaml.safe_load(FILE.read_text())
SERVICES = COMPOSE["services"]
SECRETS = ("DATABASE_PASSWORD", "API_PASSWORD")


def checked(path):
    check = Path(sys.executable).with_name("check-jsonschema")
    command = [check, "--builtin-schema", "vendor.compose-spec", path]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_is_valid(tmp_path):
    assert checked(FILE).returncode == 0, checked(FILE).stdout
    (tmp_path / "compose.yaml").write_text(FILE.read_text().replace("healthcheck:", "healthchek:", 1))
    assert "healthchek" in checked(tmp_path / "compose.yaml").stdout


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_few_rights_a_pinned_image_and_a_check(name):
    service = SERVICES[name]
    assert re.fullmatch(r"[a-z]+:\d+\.\d+(\.\d+)?(-\w+)?", service["image"])
    assert service["user"] in ("postgres", "10001:10001")
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["healthcheck"]["test"][0] == "CMD"
    assert "start_period" in service["healthcheck"]
    limits = service["deploy"]["resources"]["limits"]
    assert limits.keys() == {"cpus", "memory", "pids"}
    assert re.fullmatch(r"\d+g|\$\{WORKER_MEMORY:\?is not set\}", limits["memory"])
    assert 100 <= limits["pids"] <= 2000


def test_only_the_server_is_published_and_to_this_machine_alone():
    assert {name: service["ports"] for name, service in SERVICES.items() if "ports" in service} == {
        "server": ["127.0.0.1:4200:4200"]
    }
    assert COMPOSE["networks"]["database"] == {"internal": True}
    assert {name for name, service in SERVICES.items() if "database" in service["networks"]} == {"database", "server"}


def test_secrets_come_from_outside_and_must_be_given():
    given = [value for service in SERVICES.values() for value in service["environment"].values()]
    found = [value for value in given if any(name in value for name in SECRETS)]
    assert len(found) == 4
    assert all(re.search(r"\$\{(DATABASE|API)_PASSWORD:\?is not set\}$", value) for value in found)


@pytest.mark.parametrize("name", ["server", "worker"])
def test_ours_is_the_image_of_the_container_file_and_is_private(name):
    service = SERVICES[name]
    assert service["image"] == f"nightstride:{version('nightstride')}"
    assert f"--tag {service['image']} " in (FOLDER / "Containerfile").read_text()
    assert service["environment"]["DO_NOT_TRACK"] == "1"
    assert service["environment"]["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert [volume for volume in service["volumes"] if volume.endswith(":/scratch")]


@pytest.mark.parametrize("name", ["server", "worker"])
def test_prefect_knows_its_settings(name, monkeypatch):
    """Prefect ignores what it does not know: without any of the variables, its settings are others or refused."""
    for key, value in SERVICES[name]["environment"].items():
        monkeypatch.setenv(key, re.sub(r"\$\{.*\}", "secret", value))
    monkeypatch.setenv("PREFECT_SERVER_API_HOST", "0.0.0.0")  # as the command does
    whole = prefect_settings()
    if name == "server":
        url = whole["server"]["database"]["connection_url"].get_secret_value()
        assert url == "postgresql+asyncpg://prefect:secret@database:5432/prefect"
    for key in (key for key in SERVICES[name]["environment"] if key.startswith("PREFECT_")):
        with monkeypatch.context() as patch:
            patch.delenv(key)
            assert prefect_settings() != whole, key


def prefect_settings():
    try:
        return PrefectSettings().model_dump()
    except ValidationError:
        return None


def test_parts_fit_together():
    database, server, worker = (SERVICES[name] for name in ("database", "server", "worker"))
    asked = server["environment"]
    assert asked["PREFECT_SERVER_DATABASE_USER"] == database["environment"]["POSTGRES_USER"]
    assert asked["PREFECT_SERVER_DATABASE_NAME"] == database["environment"]["POSTGRES_DB"]
    assert asked["PREFECT_SERVER_DATABASE_HOST"] in SERVICES
    assert worker["environment"]["PREFECT_API_URL"] == "http://server:4200/api"
    assert worker["command"][worker["command"].index("--pool") + 1] == POOL
    assert set(server["networks"]) & set(worker["networks"])
    assert {"server", "worker", "database"} <= set(COMPOSE["volumes"])
    assert not [key for key in worker["environment"] if key.startswith("NIGHTSTRIDE_") and "__" in key]
    assert Settings.model_config["env_prefix"] == "NIGHTSTRIDE_"
