import threading

import pytest

from flows.adapters.lease import holder_of, lease
from flows.lease_wait import patient_lease
from schemas.errors import Misconfigured


def test_a_free_folder_is_taken_at_once(tmp_path):
    said = []
    with patient_lease(tmp_path, 0.0, said.append) as holder:
        assert holder_of(tmp_path) == holder
    assert holder_of(tmp_path) is None
    assert said == []


def test_without_patience_the_holder_is_named(tmp_path):
    with lease(tmp_path) as holder, pytest.raises(Misconfigured, match=f"process {holder.pid}"):
        patient_lease(tmp_path, 0.0, pytest.fail).__enter__()


def test_patience_ends(tmp_path):
    said = []
    with lease(tmp_path), pytest.raises(Misconfigured, match="another run holds it"):
        patient_lease(tmp_path, 0.05, said.append, poll_s=0.01).__enter__()
    assert len(said) == 1


def test_it_gets_in_when_the_holder_lets_go(tmp_path):
    waiting, said = threading.Event(), []
    released = []

    def say(text):
        said.append(text)
        waiting.set()

    def wait():
        with patient_lease(tmp_path, None, say, poll_s=0.01):
            released.append(True)

    with lease(tmp_path):
        thread = threading.Thread(target=wait)
        thread.start()
        assert waiting.wait(60)
        assert released == []
    thread.join(60)
    assert released == [True]
    assert "another run holds it" in said[0]


def test_other_failures_are_not_waited_for(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Misconfigured) as caught:
        patient_lease(tmp_path / "file", None, pytest.fail).__enter__()
    assert caught.value.code == "not_writable"
