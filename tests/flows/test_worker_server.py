import os
import subprocess
import sys

from flows.worker_server import MALLOC, THREADS

SCRIPT = """
import multiprocessing, os, sys
from flows.worker_server import MALLOC, METHOD, THREADS, start_worker_server

def look(queue):
    imported = {"torch", "distributed", "flows.ingest"} <= sys.modules.keys()
    queue.put((imported, {name: os.environ[name] for name in THREADS | MALLOC}, os.getppid()))

if __name__ == "__main__":
    before = dict(os.environ)
    start_worker_server()
    assert os.environ == before
    context = multiprocessing.get_context(METHOD)
    answers = []
    for _ in range(2):
        queue = context.Queue()
        child = context.Process(target=look, args=(queue,))
        child.start()
        answers.append(queue.get())
        child.join()
    assert answers[0] == answers[1]
    imported, environment, parent = answers[0]
    assert imported, "nothing was imported before the fork"
    assert environment == THREADS | MALLOC
    assert parent != os.getpid()
"""


def test_processes_are_forked_from_one_that_has_imported_the_libraries(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    others = os.environ | dict.fromkeys(THREADS | MALLOC, "7")
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, env=others)
    assert run.returncode == 0, run.stderr
