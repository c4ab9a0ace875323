"""Driver of the faults, one after the other."""

import shutil
from random import Random

import psutil

from benchmarks.faults import association, clock, dask_cluster, deliveries, disk, inputs, orchestrator, processes, store
from benchmarks.faults.fault import Fault, Outcome
from benchmarks.faults.lab import Lab
from benchmarks.faults.scene import NotAvailable, NotHappened, Scene

FAULTS: tuple[Fault, ...] = tuple(
    fault
    for family in (processes, dask_cluster, orchestrator, association, store, disk, clock, inputs, deliveries)
    for fault in family.FAULTS
)


def suffer(lab: Lab, fault: Fault, seed: int) -> Outcome:
    """Run a fault on the night, bring the night to its end, and measure the outcome."""
    folder = lab.folder / fault.name.replace(" ", "-").replace(",", "")
    shutil.rmtree(folder, ignore_errors=True)  # of an attempt before
    folder.mkdir()
    scene = Scene(lab, folder, Random(f"{seed} {fault.name}"))
    failure: Exception | None = None
    try:
        if lab.postgres:
            association.in_postgres(scene)
        fault.run(scene)
        scene.measure()
    except (NotHappened, psutil.Error) as error:
        failure = error
    finally:
        scene.close()
    outcome = Outcome(
        fault.name,
        fault.how,
        **(scene.measured or {}),
        exit_codes=tuple(scene.exits),
        recovery_s=scene.recovery_s,
        elapsed_s=scene.elapsed_s,
        evidence="; ".join(scene.evidence),
        failure=None if failure is None else str(failure) or repr(failure),
        available=not isinstance(failure, NotAvailable),
        codes=fault.codes,
    )
    if outcome.survived:
        shutil.rmtree(folder)
    return outcome
