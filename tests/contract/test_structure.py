"""The structure of the product code keeps within what it has reached; `benchmarks.house.structure` measures it."""

import re

import pytest

from benchmarks.house.structure import PACKAGES, ROOT, chain, components, imports, measure

LONGEST_CHAIN = 14
ONE_IMPORTER = 0.24  # of all files
FILES = {"flows": 350, "kernels": 120, "stages": 30, "schemas": 40, "nightstride": 8}


@pytest.fixture(scope="module")
def found():
    return measure()


@pytest.fixture(scope="module")
def uses():
    return imports()


def test_modules_lie_in_rooms(found):
    assert found.loose["flows"] <= 3
    assert found.loose["kernels"] <= 1


def test_a_package_has_no_more_files_than_it_needs(found):
    assert {name: count for name, count in found.per_package.items() if count > FILES[name]} == {}


def test_files_are_neither_crumbs_nor_loaves(found):
    assert 120 <= found.median_lines <= 250
    assert found.longest_file <= 500


def test_one_module_knows_the_folders_of_an_output_folder():
    spelt = re.compile(r'/ "(tiles|catalogs|ledger|reports|staging)"')
    files = [path for package in ("flows", "nightstride") for path in (ROOT / package).rglob("*.py")]
    assert [str(path.relative_to(ROOT)) for path in files if spelt.search(path.read_text())] == [
        "flows/storage/layout.py"
    ]


def test_no_module_imports_itself_by_a_detour(found):
    assert found.cycles == []


def test_a_public_class_has_one_name_and_a_name_one_class(found):
    assert found.classes_twice == {}


def test_a_function_has_a_name_of_its_own_unless_it_is_one_of_a_kind(found):
    """Stages that classify, modules that are loaded before they are needed, schemas of packets, processes."""
    assert found.functions_twice.keys() <= {"classify", "warm_up", "serialise", "main"}


def test_the_longest_chain_of_imports_stays_short(found, uses):
    assert found.longest_chain <= LONGEST_CHAIN, " > ".join(chain(uses, components(uses)))


def test_few_modules_are_there_for_a_single_other_one(found):
    assert found.one_importer <= ONE_IMPORTER * found.files


def test_what_is_below_the_stages_stays_shallow(uses):
    below = {name: targets for name, targets in uses.items() if not name.startswith("flows")}
    assert len(chain(below, components(below))) <= 8


def test_flows_stay_shallow(uses):
    """What lies below them counts as nothing here."""
    rooms = {name: {one for one in uses[name] if one.startswith("flows")} for name in uses if name.startswith("flows")}
    assert len(chain(rooms, components(rooms))) <= 13


def test_chains_are_measured_through_functions_and_packages(tmp_path):
    """The measure itself sees an import inside a function, and a name that a package hands on."""
    for package in PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("")
    (tmp_path / "schemas" / "low.py").write_text("LOW = 1\n" + 5 * "\n")
    (tmp_path / "kernels" / "middle.py").write_text("def look():\n    from schemas import low\n    return low\n")
    (tmp_path / "flows" / "high.py").write_text("from kernels.middle import look\n")
    assert measure(tmp_path).longest_chain == 3
