"""All settings, in one frozen model."""

import math
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas.ades import AdesSettings
from schemas.alert_settings import AlertSettings
from schemas.archive_settings import ButlerSettings, FetchSettings
from schemas.cluster_settings import ClusterSettings
from schemas.keyword_mapping import KeywordMapping
from schemas.observe_settings import ObserveSettings
from schemas.patch import COVER_ORDER
from schemas.photometric_systems import SystemName
from schemas.quality import QualitySettings

NOISE_ALONE = 5.77
"""Mean S/N of the highest peak in an image of pure noise; see `kernels.trails.matched_filter`."""


STAGES = "nightstride.stages"
"""Group of entry points with which other packages register stages: each names a `schemas.stage.Stage`, which may have
its own section."""


class Section(BaseModel):
    """Section of the settings; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TileSettings(Section):
    """Tiling and storage of exposures."""

    tile: Annotated[int, Field(gt=0, description="About the side of a tile, px; a multiple of the stride.")] = 1008
    chunk: Annotated[int, Field(gt=0, description="Side of a chunk, px; divides the tile.")] = 252
    codec: Annotated[Literal["none", "lz4", "zstd"], Field(description="Compression of the tiles, lossless.")] = "lz4"


class DetectSettings(Section):
    """Search of the whole image."""

    model: Annotated[str, Field(description="Detector: shipped name, folder or URL of its weights.")] = "streak_net"
    stride: Annotated[
        int, Field(gt=0, le=26, description="Step between windows, px; of a detector that looks at windows.")
    ] = 7
    batch: Annotated[int, Field(gt=0, description="Windows per call of the network.")] = 1024
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        Field(description="Precision of the network; near the threshold float32. auto: what the device is best at."),
    ] = "auto"
    threshold: Annotated[
        float | None, Field(gt=0, lt=1, description="Window probability above which it is a hit; null: the card's.")
    ] = None
    device: Annotated[Literal["auto", "cpu", "cuda"], Field(description="auto: the GPU if there is one.")] = "auto"


class MergeSettings(Section):
    """Merging of hits into candidates."""

    min_snr: Annotated[float, Field(gt=0, description="Smallest matched-filter S/N of a candidate.")] = 5.0
    max_candidates: Annotated[int, Field(gt=0, description="More on one detector is a flood: quarantined.")] = 4096


class MeasureSettings(Section):
    """Measurement and the reliability model on each candidate."""

    model: Annotated[
        str, Field(description="Model that judges candidates: shipped name, folder or URL; auto: the detector's own.")
    ] = "auto"
    min_reliability: Annotated[
        float | None, Field(ge=0, le=1, description="Least reliability of a published detection; null: the card's.")
    ] = None
    min_snr: Annotated[
        float, Field(ge=0, description="Least S/N of a published detection; default: what noise alone reaches.")
    ] = NOISE_ALONE
    aperture_fwhm: Annotated[float, Field(gt=0, description="Half width of the aperture, in FWHM.")] = 1.5


class InjectSettings(Section):
    """Injection of synthetic streaks into copies of some tiles, to measure the recovered share."""

    share: Annotated[float, Field(ge=0, le=1, description="Share of the tiles that are copied; 0: none.")] = 0.1
    streaks: Annotated[int, Field(ge=1, le=64, description="Streaks per copied tile of about 1008 x 1008 px.")] = 16
    snr: Annotated[tuple[float, float], Field(description="Least and largest matched-filter S/N, log-uniform.")] = (
        4.0,
        25.0,
    )
    length: Annotated[tuple[float, float], Field(description="Least and largest length, px, log-uniform.")] = (
        1.0,
        60.0,
    )

    @field_validator("snr", "length")
    @classmethod
    def _increasing(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] <= value[1] < math.inf:
            raise ValueError(f"must be two positive numbers, the smaller first, got {list(value)}")
        return value


class NegateSettings(Section):
    """Search of negated copies of some tiles, to count false detections."""

    share: Annotated[float, Field(ge=0, le=1, description="Share of the tiles that are copied; 0: none.")] = 0.1


class SpectralClassSettings(Section):
    """Classification as star, galaxy or quasar, and of stars by spectral type."""

    model: Annotated[str, Field(description="Model of the superclass: shipped name, folder or URL.")] = "colours"
    star_model: Annotated[str, Field(description="Model of the stellar class, likewise.")] = "ugriz"
    photometric_system: Annotated[
        Literal["auto"] | SystemName,
        Field(description="System of the magnitudes; auto: of the exposures' instrument, none of one not known."),
    ] = "auto"


class FindSourcesSettings(Section):
    """Sources on the science image."""

    mesh: Annotated[int, Field(ge=8, description="Side of the squares of which the sky is estimated, px.")] = 64
    threshold: Annotated[float, Field(gt=0, description="S/N of a pixel of the filtered image, as in white noise.")] = (
        3.0
    )
    min_area: Annotated[int, Field(ge=1, description="Least number of pixels above it.")] = 3
    contrast: Annotated[
        float, Field(gt=0, le=1, description="Least share of light of what is taken apart; 1: nothing is.")
    ] = 0.005
    min_snr: Annotated[float, Field(ge=0, description="Least S/N as a point source, in the noise as it is.")] = 5.0


class GatherObjectsSettings(Section):
    """Objects built from the sources of all exposures of a night."""

    match_fwhm: Annotated[
        float, Field(gt=0, description="Distance, FWHM of the wider PSF of two, within which sources are one object.")
    ] = 0.7
    aperture_fwhm: Annotated[float, Field(gt=0, description="Radius of the circle of apFlux, in FWHM.")] = 2.0
    mesh: Annotated[int, Field(ge=8, description="Side of the squares of which the sky is estimated, px.")] = 64
    dust_map: Annotated[
        str | None,
        Field(description="HEALPix FITS file of E(B-V), mag, to take extinction off; null: none."),
    ] = None


class PatchesSettings(Section):
    """Patches of the sky: nested HEALPix pixels, each one task. Results do not depend on them."""

    order: Annotated[int, Field(ge=0, le=COVER_ORDER, description="Order of the largest: 5 is 1.8 deg wide.")] = 5
    sources: Annotated[
        int, Field(ge=1, description="A patch with more sources is divided, to order 9 at most (0.11 deg).")
    ] = 40_000
    margin_arcsec: Annotated[
        float, Field(ge=10, le=60, description="How far around a patch objects are known to it, arcsec.")
    ] = 30.0


def _different(value: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(value)) < len(value):
        raise ValueError(f"must all be different, got {list(value)}")
    return value


_Bands = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_different)]


class CutCutoutsSettings(Section):
    """Cutouts of objects."""

    bands: Annotated[_Bands, Field(description="Their order is that of the planes.")] = ("g", "r", "i", "z")
    mesh: Annotated[int, Field(ge=8, description="Side of the squares of which the sky is estimated, px.")] = 64


class LinkHostsSettings(Section):
    """Links between detections and objects."""

    on_arcsec: Annotated[float, Field(gt=0, description="A detection sits on an object within, arcsec.")] = 1.5
    search_arcsec: Annotated[float, Field(gt=0, description="How far away a host may be, arcsec.")] = 30.0
    max_dlr: Annotated[float, Field(gt=0, description="How far in directional light radii.")] = 4.0


class LinkTrackletsSettings(Section):
    """Tracklets: detections of one night explained by one moving object."""

    max_rate: Annotated[
        float, Field(gt=0.03, le=200, description="Fastest object, deg/day; what moves less than 0.03 is at rest.")
    ] = 70.0
    by_chance: Annotated[
        float,
        Field(gt=0, le=1, description="Tracklets of a field and night that unrelated detections may give."),
    ] = 0.2


MOST_NIGHTS = 30
"""Maximum number of nights that are linked with each other."""


class LinkNightsSettings(Section):
    """Links over nights: tracklets and pairs of detections explained by one orbit around the Sun."""

    nights: Annotated[
        int,
        Field(
            ge=0, le=MOST_NIGHTS, description="Each night is linked with those before it, so many in all; 0: none is."
        ),
    ] = 0
    obscode: Annotated[
        str | None,
        Field(description="Code of the observatory, 500 for the Earth's centre; null: by the instrument."),
    ] = None

    @field_validator("nights")
    @classmethod
    def _enough(cls, value: int) -> int:
        if value in (1, 2):
            raise ValueError("must be 0, or 3 or more: a link takes three nights")
        return value


class StarGalaxySettings(Section):
    """Classification of stars and galaxies."""

    model: Annotated[str, Field(description="Model: shipped name, folder or URL of its weights.")] = "multi_band"


class ChooseGalaxiesSettings(Section):
    """Selection of galaxies large enough to classify from a picture."""

    least_p_galaxy: Annotated[float, Field(ge=0, le=1, description="Least pGalaxy.")] = 0.5
    least_size: Annotated[
        float, Field(ge=0, description="Least half-light radius, less the PSF's, over the FWHM of the PSF.")
    ] = 3.0


class CutPicturesSettings(Section):
    """Pictures of galaxies."""

    bands: Annotated[_Bands, Field(description="Bands from red to blue; those that there are count.")] = ("i", "r", "g")
    least_snr: Annotated[
        float, Field(ge=0, description="Least mean S/N of the pixels within the half-light radius, in a band.")
    ] = 10.0
    mesh: Annotated[int, Field(ge=8, description="Side of the squares of which the sky is estimated, px.")] = 256


class MorphologySettings(Section):
    """Classification of galaxies by morphology."""

    model: Annotated[str, Field(description="Model: shipped name, folder or URL of its weights.")] = "default"


class AnomalySettings(Section):
    """Search for unusual galaxies."""

    model: Annotated[str, Field(description="Model: shipped name, folder or URL of its weights.")] = "default"


class PredictKnownSettings(Section):
    """Known Solar System objects on each exposure."""

    orbits: Annotated[
        str | None,
        Field(
            description="File of orbits, of asteroids as in MPCORB, of comets as in CometEls.txt, .gz or not; "
            "null: known objects are not looked for."
        ),
    ] = None
    resolver: Annotated[
        str | None,
        Field(description="URL of a service that is asked instead, as SkyBoT's cone search is; null: none is."),
    ] = None
    resolver_timeout_s: Annotated[
        float, Field(gt=0, le=600, description="How long to wait for an answer of it, each of four times, s.")
    ] = 60.0
    obscode: Annotated[
        str | None,
        Field(description="Code of the observatory, 500 for the Earth's centre; null: site, or by the instrument."),
    ] = None
    site: Annotated[
        tuple[float, float, float] | None,
        Field(description="Place of an observatory without a code: longitude (east) and latitude, deg, and height, m."),
    ] = None
    fainter: Annotated[
        float, Field(description="Objects are listed down to so much fainter than a point of S/N 5, mag.")
    ] = 1.0

    @field_validator("resolver")
    @classmethod
    def _plain(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"https?://[^/?#@\s]+(/[^?#\s]*)?", value):
            raise ValueError("must be http:// or https:// and a host, without user, password and query")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> "PredictKnownSettings":
        if self.orbits is not None and self.resolver is not None:
            raise ValueError("orbits and resolver must not both be given: known objects come from one of them")
        return self


class MatchKnownSettings(Section):
    """Matching of detections to known objects."""

    radius_arcsec: Annotated[
        float, Field(gt=0, description="How far from its predicted place, the error of its orbit apart, arcsec.")
    ] = 2.0
    max_arcsec: Annotated[
        float, Field(ge=0, description="How far along its motion the error of its orbit may put it, arcsec.")
    ] = 30.0


class AssociationSettings(Section):
    """Association of detections over nights."""

    store: Annotated[
        str,
        Field(description="Where objects are kept. auto: OUT/association.sqlite, nowhere if OUT is in an object store; "
        "none; or postgresql+psycopg://USER@HOST/DATABASE, the password from the environment."),
    ] = "auto"  # fmt: skip
    sigmas: Annotated[
        float, Field(gt=0, description="Largest distance of a detection from its object, standard errors.")
    ] = 4.0
    min_arcsec: Annotated[float, Field(gt=0, description="But within this in any case, arcsec.")] = 0.75
    max_arcsec: Annotated[float, Field(gt=0, le=5, description="And never beyond this, arcsec.")] = 1.5
    min_trail_arcsec: Annotated[
        float, Field(gt=0, description="What is longer, by 3 standard errors, is of no object at rest, arcsec.")
    ] = 2.0
    each_visit: Annotated[
        bool,
        Field(description="Associate each visit when its exposures are done, as with alerts.to, and not the night at "
        "its end: ids then depend on the order in which visits are done."),
    ] = False  # fmt: skip

    @field_validator("store")
    @classmethod
    def _known(cls, value: str) -> str:
        if value in ("auto", "none"):
            return value
        if not re.fullmatch(r"postgresql\+psycopg://[^\s]+", value):
            raise ValueError("must be auto, none, or a URL that begins with postgresql+psycopg://")
        if re.search(r"://[^/?#]*:[^/?#]*@|password", value):
            raise ValueError("must hold no password: set PGPASSWORD, or ~/.pgpass")
        return value

    @model_validator(mode="after")
    def _ordered(self) -> "AssociationSettings":
        if self.min_arcsec > self.max_arcsec:
            raise ValueError(f"min_arcsec must not be above max_arcsec, got {self.min_arcsec} and {self.max_arcsec}")
        return self


class ForcedSettings(Section):
    """Forced photometry of stationary objects, night by night."""

    history_days: Annotated[
        int,
        Field(ge=0, le=366, description="Objects that begin in a night are measured on the exposures of so many days "
        "before, and those that were seen in so many days on the exposures of the night; 0: none are."),
    ] = 0  # fmt: skip


class ExecutionSettings(Section):
    """Execution of tasks."""

    workers: Annotated[int | None, Field(gt=0, description="Worker processes on this machine; null: one per core.")] = (
        None
    )
    worker_memory_gib: Annotated[float, Field(gt=0, description="Memory of one worker, GiB.")] = 1.5
    retries: Annotated[int, Field(ge=0, description="Attempts after the first for retryable failures.")] = 3
    visit_deadline_s: Annotated[float | None, Field(gt=0, description="Time budget of one visit, s; null: none.")] = (
        None
    )
    max_detections: Annotated[
        int, Field(gt=0, le=4096, description="More detections on one detector is a flood: quarantined.")
    ] = 4096


class WatchSettings(Section):
    """Stream of exposures."""

    allow: Annotated[
        tuple[str, ...],
        Field(description="What messages may name begins with one of these paths or URLs; none: files on this machine "
        "and in buckets, by the names of images."),
    ] = ()  # fmt: skip
    give_up_s: Annotated[
        float, Field(gt=0, description="What cannot be looked at for so long is quarantined (dead_letter), s.")
    ] = 3600.0
    stop_s: Annotated[
        float, Field(gt=2, description="Longest time from SIGTERM or Ctrl-C to the end: what is not done is left, s.")
    ] = 10.0


class PruneSettings(Section):
    """Removal, at the end of a run, of tiles of nights that are no longer needed, if they can be made again."""

    keep_nights: Annotated[int | None, Field(ge=1, description="All but the latest nights.")] = None
    older_than_days: Annotated[int | None, Field(ge=0, description="Nights older than this, days.")] = None
    max_gib: Annotated[float | None, Field(gt=0, description="The earliest, until they take less, GiB.")] = None
    max_files: Annotated[int | None, Field(gt=0, description="The earliest, until there are fewer files.")] = None

    @property
    def wanted(self) -> bool:
        """Return whether a run removes anything."""
        return any(limit is not None for limit in self.model_dump().values())


class CatalogSettings(Section):
    """Catalogues of exposures."""

    compact_from: Annotated[
        int | None,
        Field(ge=2, description="When a run has ended, catalogues of a night and dataset are joined into few files if "
        "there are so many; null: never."),
    ] = 1000  # fmt: skip


class StoreSettings(Section):
    """Object stores: ``s3://`` inputs and output folders. Secrets are read only from the environment (``AWS_...``)."""

    endpoint: Annotated[str | None, Field(description="URL of the S3 service; null: AWS_ENDPOINT_URL, or AWS.")] = None
    region: Annotated[str | None, Field(description="Region; null: AWS_REGION, AWS_DEFAULT_REGION, or us-east-1.")] = (
        None
    )
    profile: Annotated[str | None, Field(description="Profile of ~/.aws with the credentials; null: AWS_PROFILE.")] = (
        None
    )
    timeout_s: Annotated[float, Field(gt=0, description="A request that takes longer has failed, s.")] = 60.0
    patience_s: Annotated[
        float, Field(ge=0, lt=300, description="A failed request is tried again, with backoff, for so long, s.")
    ] = 120.0


class Settings(BaseSettings):
    """All settings. Precedence: command line, environment ``NIGHTSTRIDE_<SECTION>__<KEY>``, file."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="NIGHTSTRIDE_", env_nested_delimiter="__")

    fits: KeywordMapping = KeywordMapping()
    tiles: TileSettings = TileSettings()
    detect: DetectSettings = DetectSettings()
    merge: MergeSettings = MergeSettings()
    measure: MeasureSettings = MeasureSettings()
    inject: InjectSettings = InjectSettings()
    negate: NegateSettings = NegateSettings()
    spectral_class: SpectralClassSettings = SpectralClassSettings()
    find_sources: FindSourcesSettings = FindSourcesSettings()
    gather_objects: GatherObjectsSettings = GatherObjectsSettings()
    cut_cutouts: CutCutoutsSettings = CutCutoutsSettings()
    link_hosts: LinkHostsSettings = LinkHostsSettings()
    patches: PatchesSettings = PatchesSettings()
    link_tracklets: LinkTrackletsSettings = LinkTrackletsSettings()
    link_nights: LinkNightsSettings = LinkNightsSettings()
    star_galaxy: StarGalaxySettings = StarGalaxySettings()
    choose_galaxies: ChooseGalaxiesSettings = ChooseGalaxiesSettings()
    cut_pictures: CutPicturesSettings = CutPicturesSettings()
    morphology: MorphologySettings = MorphologySettings()
    anomaly: AnomalySettings = AnomalySettings()
    predict_known: PredictKnownSettings = PredictKnownSettings()
    match_known: MatchKnownSettings = MatchKnownSettings()
    association: AssociationSettings = AssociationSettings()
    forced: ForcedSettings = ForcedSettings()
    ades: AdesSettings = AdesSettings()
    quality: QualitySettings = QualitySettings()
    butler: ButlerSettings = ButlerSettings()
    fetch: FetchSettings = FetchSettings()
    execution: ExecutionSettings = ExecutionSettings()
    watch: WatchSettings = WatchSettings()
    prune: PruneSettings = PruneSettings()
    catalogs: CatalogSettings = CatalogSettings()
    store: StoreSettings = StoreSettings()
    cluster: ClusterSettings = ClusterSettings()
    observe: ObserveSettings = ObserveSettings()
    alerts: AlertSettings = AlertSettings()

    @model_validator(mode="after")
    def _hosts_are_known(self) -> "Settings":
        if (reach := self.link_hosts.search_arcsec) > (margin := self.patches.margin_arcsec):
            problem = f"link_hosts.search_arcsec = {reach:g} is more than patches.margin_arcsec = {margin:g}"
            raise ValueError(f"{problem}: hosts further away would not be known to a patch")
        return self
