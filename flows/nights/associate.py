"""Command `nightstride associate`: objects of what is published, and their catalogues, without a search."""

from collections.abc import Callable
from pathlib import Path

from flows.nights.association import AssociationSummary, associate, note_published
from flows.pipeline.graph import following
from flows.pipeline.night_plan import plan_nights
from flows.storage.ledger import Ledger
from schemas.dia_object import ASSOCIATION
from schemas.errors import Misconfigured
from schemas.night_range import NightRange
from schemas.settings import Settings
from schemas.static_object import STATIC_ASSOCIATION
from schemas.summary import Trouble
from stages import PIPELINE


def associate_output(
    out: Path, settings: Settings, chosen: NightRange, rebuild: bool, tell: Callable[[str], object]
) -> AssociationSummary:
    """Associate what is published and publish the catalogues of objects, without a search; the caller holds the lease.

    Nights whose other catalogues a run with these settings would make again are left to that run.

    Parameters
    ----------
    out, settings
        Output folder, and settings, which should be those of the run.
    chosen
        Nights.
    rebuild
        Forget all objects first.
    tell
        Receives a line for each night.

    Raises
    ------
    Misconfigured
        Nothing is associated (``no_association``), or there is nothing of these nights (``no_night``).
    """
    from flows.nights.patches import run_nights

    nights = chosen.among(Ledger(out).nights(), str(out))
    found = associate(out, settings.association, nights if chosen else None, others=0, rebuild=rebuild, tell=tell)
    if found.off is not None:
        raise Misconfigured("no_association", str(out), f"has none: {found.off}.", "set association.store.")
    works = [one for one in plan_nights(nights, out, settings, PIPELINE, found.digests, found.static) if one.outdated]
    ours = following(PIPELINE, ASSOCIATION.name) | following(PIPELINE, STATIC_ASSOCIATION.name)
    ready = [
        one
        for one in works
        if not one.digests.keys() - one.kept.keys() - one.idle.keys() - ours
        and not any(patch.of_exposures.due for patch in one.patches)
    ]
    failed = [*found.summary.failed, *(_left(one.night) for one in works if one not in ready)]
    results = run_nights(ready, out, settings)
    note_published(out, settings.association, found, results)
    failed += [trouble for result in results.values() for trouble in result.failed]
    return found.summary.model_copy(update={"published": tuple(results), "failed": tuple(failed)})


def _left(night: str) -> Trouble:
    text = f"night {night}: has other catalogues that are not as these settings would make them. To fix, "
    return Trouble(
        uri=f"night {night}", code="other_settings", message=f"{text}give the --config of its run, or rerun it."
    )
