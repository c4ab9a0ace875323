import os
import subprocess
import sys

import pytest

from flows.nights.run import page_process
from flows.runtime.parallel import here
from schemas.cluster_settings import ClusterSettings
from schemas.settings import Settings

SCRIPT = """
import os, sys
from flows.nights.run import _import_pages, page_process
from schemas.errors import BadInput
from schemas.settings import Settings

def refuse():
    raise BadInput("bad", "here", "is bad.", "mend it.")

if __name__ == "__main__":
    with page_process(Settings()) as call:
        other = call(os.getpid)
        assert call(os.getpid) == other != os.getpid()
        assert "torch" not in sys.modules
        call(_import_pages)
        assert call(eval, "'flows.results.page.page' in __import__('sys').modules")
        try:
            call(refuse)
        except BadInput as error:
            print(error.code, error.remedy)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked there alone")
def test_what_a_page_needs_is_called_in_one_other_process_that_has_its_libraries(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert run.stdout == "bad mend it.\n", run.stderr


def test_where_workers_are_elsewhere_pages_are_drawn_here():
    with page_process(Settings(cluster=ClusterSettings(kind="address", address="tcp://127.0.0.1:9"))) as call:
        assert call is here
        assert call(os.getpid) == os.getpid()
