"""Nights as published in an output folder or a data release."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from html import escape
from numbers import Integral
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from flows.results.catalogue_rows import CatalogueRows, known_tables, patch_of, published_tables
from flows.results.exposure_rows import ExposureRows
from flows.runtime.words import counted
from flows.storage.bucket_path import located
from flows.storage.layout import RELEASE, catalogs_folder, require_output
from flows.storage.ledger import Ledger
from flows.storage.release_note import ReleaseNote, read_note
from nightstride.arguments import identity_of, path_of, whole_number
from nightstride.table import Table
from schemas.dia_source import DIA_SOURCE
from schemas.errors import BadInput, Misconfigured, NightstrideError, choice

if TYPE_CHECKING:
    from flows.results.explain import Explanation
    from nightstride.light_curve import LightCurve
    from nightstride.pictures import Cutout, PlaneImage

Label = str | int | date
Chosen = Label | slice | Sequence[Label] | None
Patches = Sequence[tuple[int, int]] | None

LISTED = 20
"""Maximum number of nights listed in a notebook."""


def open(out: str | Path, nights: Chosen = None, settings: str | Path | None = None) -> "Night":
    """Open an output folder or a data release for reading.

    Parameters
    ----------
    out
        Folder, or ``s3://bucket/prefix``.
    nights
        Label (YYYYMMDD), list of labels, or slice of labels, both ends included; None: all.
    settings
        Settings file (TOML), for access to object stores. None: as for every command.

    Raises
    ------
    Misconfigured
        The folder is not an output folder or a data release, or has no such night.
    """
    from flows.runtime.settings import load_settings
    from flows.storage.object_store import PROTOCOL, configure

    place, file = located(str(out)), None if settings is None else path_of(settings, "settings").absolute()
    if not str(place).startswith(PROTOCOL):
        place = place.expanduser().absolute()  # a notebook may change its working folder
    else:
        configure(load_settings(file).store)
    require_output(place)
    files = {path.name.removeprefix("night=") for path in catalogs_folder(place).glob("*/night=*")}
    labels = tuple(sorted({*Ledger(place).nights(), *files}))
    whole = Night(place, labels, file)
    return whole if nights is None else whole[nights]


@dataclass(frozen=True)
class Night:
    """Published data of one night or several: tables, pixels, light curves, and the origin of each detection.

    ``night["20260101"]``, ``night["20260101":"20260131"]`` and ``night[["20260101", "20260105"]]`` select nights;
    iteration yields one night at a time.

    Attributes
    ----------
    out
        Output folder, or folder of a data release.
    nights
        Labels, sorted.
    settings
        Settings file; None: as for every command.
    """

    out: Path
    nights: tuple[str, ...]
    settings: Path | None = None

    def __getitem__(self, chosen: Chosen) -> "Night":
        """Return some of the nights, by a label (YYYYMMDD), a list of labels, or a slice with both ends included."""
        return Night(self.out, _chosen(self.out, self.nights, chosen), self.settings)

    def __iter__(self) -> "Iterator[Night]":
        """Yield each night by itself, by date."""
        return (Night(self.out, (one,), self.settings) for one in self.nights)

    def __len__(self) -> int:
        return len(self.nights)

    def __contains__(self, chosen: object) -> bool:
        """Return whether a label (YYYYMMDD, or a date) is among the nights, or a night of the same folder."""
        if isinstance(chosen, Night):
            return any(one == chosen for one in self)
        return isinstance(chosen, str | Integral | date) and _label(chosen) in self.nights

    def __bool__(self) -> bool:
        return True

    @property
    def release(self) -> ReleaseNote | None:
        """Return the description of the data release; None if this is not a release."""
        return read_note(self.out)

    @property
    def datasets(self) -> tuple[str, ...]:
        """Return the names of the published tables, as `dataset` takes them; arrays are not included."""
        return published_tables(self.out)

    @property
    def patches(self) -> tuple[tuple[int, int], ...]:
        """Return the patches of the sky of these nights, as order and number of nested HEALPix pixels."""
        from flows.storage.layout import patch_paths

        paths = (path for label in self.nights for path in patch_paths(self.out, label))
        return tuple(sorted({one for path in paths if (one := patch_of(path)) is not None}))

    def dataset(
        self, name: str, columns: Sequence[str] | None = None, where: Any = None, patches: Patches = None
    ) -> Table:
        """Return a published table by its name, over these nights and patches of the sky.

        Parameters
        ----------
        name
            ``dia_source``, ``object``, ``tracklet``, ...: see `datasets`, and docs/reference/columns.md.
        columns, where
            See `Table`.
        patches
            Patches of the sky to read, from `patches`; None: all. Datasets without patches, such as detections, can
            be selected by position with `Table.near`.

        Raises
        ------
        Misconfigured
            There is no such dataset, or it has no such patch; or it is an array.
        """
        from flows.pipeline.graph import declared_arrays

        name = str(name)  # only a string can be a known name
        tables = known_tables(self.out, name)
        if name in declared_arrays():
            remedy = "read its Zarr stores: docs/use/catalogues.md#arrays."
            raise Misconfigured("array_dataset", f"dataset {name!r}", "is an array, not a table.", remedy)
        if name not in tables:
            raise Misconfigured("no_dataset", f"dataset {name!r}", "is not known here.", choice(name, self.datasets))
        rows = CatalogueRows(self.out, tables[name], self.nights)
        whole = Table(rows if patches is None else _of_patches(rows, patches))
        return whole if columns is None and where is None else whole(columns, where)

    def detections(self, columns: Sequence[str] | None = None, where: Any = None) -> Table:
        """Return the detections on difference images (``dia_source``); see `Table` for the parameters."""
        return self.dataset("dia_source", columns, where)

    def tracklets(self, columns: Sequence[str] | None = None, where: Any = None) -> Table:
        """Return the tracklets (``tracklet``): detections of one night explained by one moving object."""
        return self.dataset("tracklet", columns, where)

    def objects(self, columns: Sequence[str] | None = None, where: Any = None, patches: Patches = None) -> Table:
        """Return the objects on the science images of each night (``object``)."""
        return self.dataset("object", columns, where, patches)

    def static_objects(self, columns: Sequence[str] | None = None, where: Any = None, patches: Patches = None) -> Table:
        """Return the permanent ids and histories of the objects on the science images, by night (``static_object``)."""
        return self.dataset("static_object", columns, where, patches)

    def dia_objects(self, columns: Sequence[str] | None = None, where: Any = None, patches: Patches = None) -> Table:
        """Return the stationary objects as known after each night (``dia_object``)."""
        return self.dataset("dia_object", columns, where, patches)

    @property
    def exposures(self) -> Table:
        """Return the exposures, with the columns of the ledger and the metadata stored with their pixels.

        The metadata are read from a small file for each exposure. ``exposures(["night", "visit", "detector",
        "status"])`` reads none of them.
        """
        return Table(ExposureRows(self.out, self.nights))

    def image(
        self, visit: int, detector: int, plane: str = "difference", section: tuple[slice, slice] | None = None
    ) -> "PlaneImage":
        """Return the stored pixels of an exposure as astropy `CCDData`, with WCS, mask and unit.

        Parameters
        ----------
        visit, detector
            Which exposure.
        plane
            ``difference``, ``mask``, ``variance``, ``science`` or ``template``.
        section
            Rows and columns to read, ``np.s_[y0:y1, x0:x1]``, 0-based. Required for an image of more than 37,748,736
            px.

        Raises
        ------
        Misconfigured
            There are no such pixels or no such plane; the image is large and no section is given; an argument has the
            wrong type.
        BadInput
            The stored pixels are damaged.
        """
        from flows.results.pixel_piece import find_exposure, image_piece
        from nightstride.pictures import ccd_data

        numbers = whole_number(visit, "visit"), whole_number(detector, "detector")
        key = find_exposure(self.out, self.nights, *numbers)
        return ccd_data(image_piece(self.out, key, plane, section))

    def cutout(self, source_id: int, size: int | None = None) -> "Cutout":
        """Return cutouts around a detection from the difference image and, if stored, the science image and template.

        The pixel of the detection, ``round(x)`` and ``round(y)``, has the index ``size // 2`` on both axes, even if
        ``size`` is even. At a border ``meta["x0"]`` or ``meta["y0"]`` is negative, or the cutout reaches beyond the
        last pixel; pixels outside the image are NaN.

        Parameters
        ----------
        source_id
            ``diaSourceId``.
        size
            Side, px; None: large enough for the trail, and at least 41.

        Raises
        ------
        Misconfigured
            There is no such detection, its pixels are not kept (pruned, or a release), or the size is not a
            whole number from 1 to 6144.
        BadInput
            The stored pixels are damaged.
        """
        from flows.results.light_curve import find_detection
        from flows.results.pixel_piece import find_exposure, square_piece
        from flows.storage.layout import tile_path
        from flows.storage.zarr_tiles import TileStore
        from nightstride.pictures import Cutout, ccd_data

        key, row = find_detection(self.out, self.nights, identity_of(source_id))
        find_exposure(self.out, (key.night,), key.visit, key.detector)
        store = TileStore.open(tile_path(self.out, key))
        side = max(int(1.4 * row["bboxSize"]), 41) | 1 if size is None else whole_number(size, "size")
        planes = [one for one in ("difference", "science", "template") if one in store.planes]
        return Cutout(row, {one: ccd_data(square_piece(store, one, row["y"], row["x"], side)) for one in planes})

    def explain(self, source_id: int) -> "Explanation":
        """Return the pixels, models, settings and code that produced a detection, and its tracklet and object.

        Raises
        ------
        Misconfigured
            There is no such detection.
        BadInput
            A catalogue cannot be read.
        """
        from flows.results.explain import explain_detection
        from flows.runtime.settings import load_settings
        from nightstride.pictures import explanation_picture

        found = explain_detection(self.out, identity_of(source_id), load_settings(self.settings).association)
        return replace(found, picture=partial(explanation_picture, self.out, found))

    def lightcurve(self, identity: int, of: Literal["object", "tracklet", "detection"] | None = None) -> "LightCurve":
        """Return a light curve by time: ``time``, ``band``, ``flux``, ``fluxErr``, ``visit`` and more.

        Parameters
        ----------
        identity
            ``diaObjectId``, ``trackletId``, or the ``diaSourceId`` of one of their detections.
        of
            Kind of light curve; None: of the object if it was seen more than once, else of the tracklet.
            ``meta["of"]`` of the table holds the kind.

        Raises
        ------
        Misconfigured
            There is none in these nights, or the value is not an id.
        """
        from astropy.time import Time

        from flows.results.light_curve import light_curve
        from flows.storage.catalog_store import qtable_of
        from nightstride.light_curve import LightCurve

        found = light_curve(self.out, self.nights, identity_of(identity), of)
        table = LightCurve(qtable_of(found.rows))
        table.add_column(Time(found.rows["midpointMjdTai"].to_numpy(), format="mjd", scale="tai"), 0, "time")
        table.meta |= {"of": found.kind, "id": found.identity}
        return table

    def features(
        self, identity: int, of: Literal["object", "tracklet", "detection"] | None = None
    ) -> dict[str, dict[str, float]]:
        """Return the features of a light curve: band -> feature -> value. Parameters are those of `lightcurve`.

        Raises
        ------
        Misconfigured
            There is no light curve in these nights, or the extra ``features`` is not installed.
        """
        from flows.results.light_curve import light_curve, light_curve_features

        return light_curve_features(light_curve(self.out, self.nights, identity_of(identity), of).rows)

    def __repr__(self) -> str:
        labels = self.nights
        several = f"{len(labels)} nights, {labels[0]} to {labels[-1]}" if labels else "no nights"
        told = f"night {labels[0]}" if len(labels) == 1 else several
        return f"<Night of {self.out}: {self._release_words()}{told}; {', '.join(self.datasets)}>"

    def _repr_html_(self) -> str:
        ledger, rows = Ledger(self.out), []
        for label in self.nights[:LISTED]:
            briefs = list(ledger.briefs(label))
            states = [sum(one.status == state for one in briefs) for state in ("done", "quarantined", "failed")]
            values = [label, *states, sum(one.detections for one in briefs)]
            rows.append("<tr>" + "".join(f"<td>{escape(str(one))}</td>" for one in values) + "</tr>")
        titles = "".join(f"<th>{one}</th>" for one in ("night", "searched", "quarantined", "failed", "detections"))
        rest = len(self.nights) - len(rows)
        more = f"<p>and {counted(rest, 'night')} more</p>" if rest > 0 else ""
        about = f"<p><b>{escape(str(self.out))}</b>: {escape(self._release_words())}{', '.join(self.datasets)}</p>"
        table = f"<table><thead><tr>{titles}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        return f"<div>{about}{table}{more}{self._picture()}</div>"

    def _release_words(self) -> str:
        """Return the name of the release for ``_repr_html_``; never raise."""
        try:
            return "" if self.release is None else f"release {self.release.name}, "
        except BadInput:
            return f"release, of which {RELEASE} is damaged, "

    def _picture(self) -> str:
        """Return a map of the detections on the sky; "" if there are none to draw, or they cannot be read."""
        from nightstride.sky_picture import sky_picture

        try:
            return sky_picture(CatalogueRows(self.out, DIA_SOURCE, self.nights))
        except NightstrideError:
            return ""


def _chosen(out: Path, known: tuple[str, ...], chosen: Chosen) -> tuple[str, ...]:
    if isinstance(chosen, slice):
        first, last = (None if end is None else _label(end) for end in (chosen.start, chosen.stop))
        found = tuple(one for one in known if (first is None or one >= first) and (last is None or one <= last))
        if chosen.step is None and found:
            return found
        problem = f"has no night from {first or 'the first'} to {last or 'the last'}."
        if chosen.step is not None:
            problem = f"takes no step in a slice of nights: {chosen.step!r}."
        raise Misconfigured("no_night", str(out), problem, "write nights['20260101':'20260131'], both included.")
    try:
        wanted = [chosen] if isinstance(chosen, str | int | Integral | date) else list(chosen)  # type: ignore[arg-type]
    except TypeError as error:
        problem = "is no label (YYYYMMDD), nor a list or a slice of labels."
        raise Misconfigured("no_night", f"night {chosen!r}", problem, "choose among `.nights`.") from error
    labels = [_label(one) for one in wanted]
    for label in labels:
        if label not in known:
            remedy = choice(label, known) if known else "see `nightstride status OUT`: no exposure became of one yet."
            raise Misconfigured("no_night", str(out), f"holds no night {label}.", remedy)
    return tuple(sorted(set(labels)))


def _of_patches(rows: CatalogueRows, patches: Sequence[tuple[int, int]]) -> CatalogueRows:
    """Return the rows of some patches of the sky."""
    try:
        wanted = tuple((index(order), index(pixel)) for order, pixel in patches)
    except (TypeError, ValueError) as error:
        problem = f"is {patches!r}, must be a list of (order, pixel), both whole numbers."
        raise Misconfigured("bad_patch", "patches", problem, "choose among night.patches.") from error
    for one in wanted:
        if one not in rows.sky:
            problem = f"has no patch {one}." if rows.sky else "does not lie in patches of the sky."
            remedy = "choose among night.patches." if rows.sky else "choose by place: .near(ra, dec, radius)."
            raise Misconfigured("no_patch", f"dataset {rows.name}", problem, remedy)
    return replace(rows, patches=wanted)


def _label(given: object) -> str:
    return given.strftime("%Y%m%d") if isinstance(given, date) else str(given)
