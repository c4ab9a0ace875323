import shutil
import subprocess
import sys
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from flows.pipeline.lineage import stage_digest
from flows.storage.digest import KEPT, ROOT, code_digest, digest, file_digest, our_code
from schemas.dia_source import HIT
from schemas.pixels import DIFFERENCE
from schemas.settings import DetectSettings, MergeSettings, Settings
from schemas.stage import Stage

STAGE = Stage("detect", "1", "tile", (DIFFERENCE,), HIT, run=lambda inputs, context: HIT.empty())

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def same(one, other):
    """Equal in value and in type at every level; `==` takes 1 for 1.0 and for True, and 0.0 for -0.0."""
    return repr(one) == repr(other)


@given(VALUES, VALUES)
def test_equal_digest_means_equal_content(one, other):
    one, other = (_sorted(value) for value in (one, other))
    assert (digest({"value": one}) == digest({"value": other})) == same(one, other)


def _sorted(value):
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
def test_parts_do_not_run_together(one, other):
    assert (digest(*one) == digest(*other)) == (one == other)


def test_text_that_imitates_the_encoding_is_not_taken_for_it():
    assert digest("a", "b") != digest("a1:b") != digest(b"a", b"b")
    assert len({digest("1"), digest(b"1"), digest({"v": 1}), digest({"v": 1.0}), digest({"v": True})}) == 5


def test_order_counts_in_sequences_only():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest("a", "b") != digest("b", "a")


def test_a_model_counts_as_its_values():
    assert digest(MergeSettings(min_snr=5)) == digest(MergeSettings(min_snr=5.0)) != digest(MergeSettings(min_snr=6))
    assert digest(MergeSettings()) == digest(MergeSettings().model_dump())


def test_is_the_same_in_another_process():
    code = "from flows.storage.digest import digest; print(digest('a', b'b', {'y': [1, 2.5, None], 'x': {'é': True}}))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert other == digest("a", b"b", {"x": {"é": True}, "y": [1, 2.5, None]})


def test_known_value():
    # The encoding by hand: a list that holds the text "ab".
    assert digest("ab") == sha256(b"l5:s2:ab").hexdigest()


@pytest.mark.parametrize(
    ("value", "message"), [({"a": {1, 2}}, "got set"), ({1: "a"}, "must be text, got 1"), ({"a": object()}, "object")]
)
def test_refuses_what_has_no_canonical_form(value, message):
    with pytest.raises(TypeError, match=message):
        digest(value)


@pytest.mark.parametrize(
    "changed",
    [
        {"inputs": ["b", "a"]},
        {"stage": Stage("detect", "2", "tile", (DIFFERENCE,), HIT, run=STAGE.run)},
        {"stage": Stage("detect2", "1", "tile", (DIFFERENCE,), HIT, run=STAGE.run)},
        {"models": ["w2"]},
        {"models": []},
        {"settings": DetectSettings(batch=7)},
        {"settings": None},
    ],
)
def test_stage_digest_changes_with_each_of_its_parts(changed):
    base = {"inputs": ["a", "b"], "stage": STAGE, "models": ["w"], "settings": DetectSettings()}
    assert stage_digest(**base) == stage_digest(**base)
    assert stage_digest(**base) != stage_digest(**(base | changed))


def test_an_input_is_not_taken_for_a_model():
    assert stage_digest(["a", "b"], STAGE, [], None) != stage_digest(["a"], STAGE, ["b"], None)


def test_file_digest_is_that_of_the_bytes(tmp_path):
    content = bytes(range(256)) * 5000
    (tmp_path / "file").write_bytes(content)
    assert file_digest(tmp_path / "file") == sha256(content).hexdigest()


def test_code_digest_sees_every_change_of_our_files_and_nothing_else(tmp_path):
    for name in ("schemas", "stages"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    first = code_digest(tmp_path)
    assert (len(first), code_digest(tmp_path)) == (64, first)
    (tmp_path / "schemas" / "__pycache__").mkdir()
    (tmp_path / "schemas" / "__pycache__" / "pixels.pyc").write_bytes(b"compiled")
    assert code_digest(tmp_path) == first
    weights = next((tmp_path / "stages").rglob("*.safetensors"))
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert code_digest(tmp_path) != first
    weights.write_bytes(content)
    assert code_digest(tmp_path) == first
    (tmp_path / "schemas" / "pixels.py").rename(tmp_path / "schemas" / "pixel.py")
    assert code_digest(tmp_path) != first


def test_our_code_is_that_of_the_tree_that_runs():
    assert our_code() == code_digest(ROOT)


def test_a_model_counts_as_its_values_however_many_there_were_before():
    """Encodings are kept; no model is taken for another, nor for what it was before it changed."""
    for _ in range(2):
        for gib in range(1, 200):
            settings = Settings(execution={"worker_memory_gib": gib})
            assert digest(settings.execution) == digest(settings.execution.model_dump(mode="json"))
    shared = Settings().execution
    assert digest({"a": shared, "b": [shared]}) == digest({"b": [shared.model_dump()], "a": shared.model_dump()})

    class Changing(BaseModel):
        value: int

    model = Changing(value=1)
    assert digest(model) == digest({"value": 1})
    model.value = 2
    assert digest(model) == digest({"value": 2})


def test_of_models_that_cannot_change_the_last_ones_are_not_encoded_again():
    asked = []

    class Counted(BaseModel, frozen=True):
        number: int

        def model_dump(self, **given):
            asked.append(self.number)
            return super().model_dump(**given)

    models = [Counted(number=number) for number in range(KEPT + 1)]
    once = [digest(one) for one in models]
    assert [digest(one) for one in models[1:]] == once[1:]
    assert asked == list(range(KEPT + 1))
    assert digest(models[0]) == once[0]
    assert asked[-1] == 0
