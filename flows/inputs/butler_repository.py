"""Exposures in a Butler repository (Jenness et al. 2022, Proc. SPIE 12189, 1218911)."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from flows.inputs.files import failure_words
from flows.runtime.secrets import refuse_credentials
from schemas.archive_settings import ButlerSettings
from schemas.errors import Misconfigured

PREFIX = "butler:"
"""Prefix of an input that names a repository: ``butler:REPO``."""

_OF_DETECTOR = frozenset({"instrument", "visit", "detector"})
_OLD_STYLE = re.compile(r"(?P<run>(?:\w+_)?)(?P<template>[A-Za-z]+Diff)_differenceExp")
_NEW_STYLE = re.compile(r"(?P<run>(?:\w+_)?)difference_image\w*")


class ButlerExposure(NamedTuple):
    """Files of an exposure: URI of the difference image, and (plane, URI) of the others."""

    difference: str
    siblings: tuple[tuple[str, str], ...]


class _Place(NamedTuple):
    """Visit and detector of a dataset."""

    instrument: str
    visit: int
    detector: int

    def __str__(self) -> str:
        return f"visit {self.visit}, detector {self.detector} of {self.instrument}"


def is_repository(given: str) -> bool:
    """Return whether an input is of the form ``butler:REPO``."""
    return given.startswith(PREFIX)


def butler_exposures(given: str, wanted: ButlerSettings) -> list[ButlerExposure]:
    """List the difference images in a repository, each with its science and template image.

    Parameters
    ----------
    given
        ``butler:REPO``; REPO is a folder, a URL or an alias of the site's index of repositories.
    wanted
        Settings that select datasets and collections.

    Returns
    -------
    list of ButlerExposure
        Sorted by visit and detector. A dataset that the registry lists but the datastore lacks is included, so that it
        is quarantined rather than silently missing.

    Raises
    ------
    Misconfigured
        ``butler_not_installed``, ``no_such_repository``, ``bad_query``: the repository does not accept a collection,
        dataset type or expression; ``no_exposures``; ``ambiguous``: two difference images of the same visit and
        detector; ``remote_butler``, ``disassembled``: files that cannot be read individually.
    """
    repository = given.removeprefix(PREFIX)
    refuse_credentials(repository, "the URL of a repository")
    with _opened(repository) as butler:
        found = _by_place(_datasets(butler, wanted.dataset_types, wanted, given), given)
        if not found:
            raise Misconfigured(
                "no_exposures",
                given,
                f"no dataset of type {' or '.join(wanted.dataset_types)} {_asked(wanted)}.",
                "widen --where or --collections, or name another --dataset-type; "
                f"`butler query-datasets {repository}` lists what there is.",
            )
        siblings = _siblings(butler, {ref.datasetType.name for ref in found.values()}, wanted, given)
        refs = [*found.values(), *(ref for refs in siblings.values() for ref in refs.values())]
        uris = _uris(butler, refs, given)
    return [
        ButlerExposure(
            uris.get(ref.id, f"{ref.datasetType.name} {ref.id}"),
            tuple(
                (plane, uri)
                for plane in ("science", "template")
                if (uri := _first_uri(plane, ref.datasetType.name, place, siblings, uris)) is not None
            ),
        )
        for place, ref in sorted(found.items())
    ]


def sibling_types(name: str) -> dict[str, tuple[str, ...]]:
    """Return the dataset types that belong to a type of difference image: plane -> names, the best first.

    ``goodSeeingDiff_differenceExp`` is made from ``calexp`` and ``goodSeeingDiff_matchedExp``; ``difference_image``
    from ``visit_image`` or ``preliminary_visit_image`` and ``template_matched`` or ``template_detector``. A prefix
    (``fakes_``, ``injected_``) is kept.
    """
    if old := _OLD_STYLE.fullmatch(name):
        run, template = old["run"], old["run"] + old["template"]
        return {"science": (f"{run}calexp",), "template": (f"{template}_matchedExp", f"{template}_templateExp")}
    if new := _NEW_STYLE.fullmatch(name):
        run = new["run"]
        return {
            "science": (f"{run}visit_image", f"{run}preliminary_visit_image"),
            "template": (f"{run}template_matched", f"{run}template_detector"),
        }
    return {}


def _opened(repository: str) -> Any:
    try:
        from lsst.daf.butler import Butler
    except ImportError as error:
        raise Misconfigured(
            "butler_not_installed",
            PREFIX + repository,
            f"the package lsst-daf-butler cannot be imported: {error}.",
            "pip install 'nightstride[butler]' with deploy/constraints.txt.",
        ) from error
    try:
        return Butler.from_config(repository, writeable=False)
    except Exception as error:  # of the file system, database or store: all kinds of errors
        raise Misconfigured(
            "no_such_repository",
            PREFIX + repository,
            f"no Butler repository can be opened there: {_why_not(error)}.",
            "name the folder or URL that holds its butler.yaml, or an alias in DAF_BUTLER_REPOSITORY_INDEX.",
        ) from error


def _why_not(error: Exception) -> str:
    """Return why a repository cannot be opened: Butler's own messages about missing files speak of its settings."""
    missing = "there is no butler.yaml, and no alias of this name"
    return missing if isinstance(error, FileNotFoundError) else failure_words(error)


def _datasets(butler: Any, types: Sequence[str], wanted: ButlerSettings, given: str) -> list[Any]:
    """Query the registry for datasets of a visit and detector; without named collections, in all of them."""
    from lsst.daf.butler import ButlerUserError

    ordered = wanted.collections or tuple(butler.collections.defaults)
    try:
        # A query fails on names that do not exist.
        known = [one.name for one in butler.registry.queryDatasetTypes(list(types))] if types else []
        if not known:
            return []
        instruments = [record.name for record in butler.query_dimension_records("instrument", explain=False)]
        refs = butler.query_all_datasets(
            ordered or "*",
            name=known,
            find_first=bool(ordered),
            where=wanted.where,
            # With a single instrument "visit = 3" is enough.
            data_id={"instrument": instruments[0]} if len(instruments) == 1 else None,
            limit=None,
        )
    except ButlerUserError as error:
        raise Misconfigured(
            "bad_query",
            given,
            f"the repository does not accept the query {_asked(wanted)}: {_reason(error)}.",
            "correct --where, --collections or --dataset-type; an expression reads like \"band = 'r' and visit > 3\".",
        ) from error
    return [ref for ref in {ref.id: ref for ref in refs}.values() if set(ref.dimensions.required) == _OF_DETECTOR]


def _by_place(refs: Iterable[Any], given: str) -> dict[_Place, Any]:
    found: dict[_Place, Any] = {}
    for ref in sorted(refs, key=lambda ref: (ref.datasetType.name, ref.run)):
        place = _Place(*(ref.dataId[name] for name in _Place._fields))
        if place in found:
            both = " and ".join(f"{one.datasetType.name} of {one.run}" for one in (found[place], ref))
            raise Misconfigured(
                "ambiguous",
                given,
                f"there are two images of {place}: {both}.",
                "choose by --collections or --dataset-type.",
            )
        found[place] = ref
    return found


def _siblings(
    butler: Any, names: Iterable[str], wanted: ButlerSettings, given: str
) -> Mapping[str, Mapping[_Place, Any]]:
    """Find the images that may belong to difference images: dataset type -> place -> dataset."""
    candidates = {one for name in names for types in sibling_types(name).values() for one in types}
    by_type: dict[str, list[Any]] = defaultdict(list)
    for ref in _datasets(butler, sorted(candidates), wanted, given):
        by_type[ref.datasetType.name].append(ref)
    return {name: _by_place(refs, given) for name, refs in by_type.items()}


def _first_uri(
    plane: str, name: str, place: _Place, siblings: Mapping[str, Mapping[_Place, Any]], uris: Mapping[Any, str]
) -> str | None:
    refs = (siblings.get(one, {}).get(place) for one in sibling_types(name).get(plane, ()))
    return next((uris[ref.id] for ref in refs if ref is not None and ref.id in uris), None)


def _uris(butler: Any, refs: Sequence[Any], given: str) -> dict[Any, str]:
    """Return the address of each dataset in the datastore, in the form that fsspec opens: id -> URI."""
    return {
        ref.id: _address(found.primaryURI, ref, given)
        for ref, found in butler.get_many_uris(refs, allow_missing=True).items()
    }


def _address(uri: Any, ref: Any, given: str) -> str:
    if uri is None:
        raise Misconfigured(
            "disassembled",
            given,
            f"{ref.datasetType.name} is stored in parts, image and mask in files of their own.",
            "export it as whole FITS files (`butler retrieve-artifacts`) and run on these.",
        )
    if uri.scheme in ("http", "https"):
        raise Misconfigured(
            "remote_butler",
            given,
            "its server gives addresses that are signed and expire, so that a night could not be repeated.",
            "retrieve the files (`butler retrieve-artifacts`) and run on these.",
        )
    path = str(uri.ospath if uri.isLocal else uri.replace(fragment="").geturl())
    member = uri.unquoted_fragment.removeprefix("zip-path=") if uri.fragment else ""
    return f"zip://{member}::{path}" if member else path


def _reason(error: Exception) -> str:
    """Return an error's message, and where the parser stopped in an expression."""
    return ": ".join(str(one).rstrip(".") for one in (error, error.__cause__) if one is not None)


def _asked(wanted: ButlerSettings) -> str:
    """Return a description of the query."""
    condition = f"where {wanted.where!r} " if wanted.where else ""
    return f"{condition}in {', '.join(wanted.collections) or 'all collections'}"
