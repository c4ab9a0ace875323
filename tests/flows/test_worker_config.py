import subprocess
import sys

import dask

from flows.worker_config import WORKERS, environment, exports
from flows.worker_server import MALLOC, THREADS


def test_dask_reads_from_the_environment_what_our_own_workers_get():
    code = f"import dask, json; print(json.dumps([dask.config.get(name) for name in {list(WORKERS)}]))"
    script = "\n".join([*exports(), f'{sys.executable} -c "{code}"'])
    run = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, check=True)
    assert dask.config.get("distributed.worker.memory.target") is not False
    assert run.stdout.strip() == '[false, false, false, 0.95, "500ms"]'


def test_threads_and_allocator_are_among_it():
    assert (THREADS | MALLOC).items() <= environment().items()
