"""Truth of simulated exposures."""

import pyarrow as pa

from schemas.dataset import TableOf, column
from schemas.objects import BANDS

TRUTH = TableOf(
    "truth",
    pa.schema(
        [
            column("kind", pa.string(), "", "streak | point | satellite"),
            column(
                "objectName", pa.string(), "", "Same object, same name on every visit; empty for one that is seen once."
            ),
            column("visit", pa.int64(), "", "Visit."),
            column("detector", pa.int32(), "", "Detector."),
            column("x", pa.float64(), "pix", "Centre, 0-based column coordinate."),
            column("y", pa.float64(), "pix", "Centre, 0-based row coordinate."),
            column("ra", pa.float64(), "deg", "Right ascension (ICRS).", nullable=True),
            column("dec", pa.float64(), "deg", "Declination (ICRS).", nullable=True),
            column("magnitude", pa.float64(), "mag(AB)", "Null for a negative source.", nullable=True),
            column("flux", pa.float64(), "pixel_unit", "Total flux in pixel units; negative for a fading variable."),
            column(
                "snr", pa.float64(), "", "Flux * sum(m^2) / std(m-filtered noise): true template m, noise as it is."
            ),
            column("length_px", pa.float64(), "pix", "Length before convolution with the PSF; 0 for a point."),
            column("angle_deg", pa.float64(), "deg", "From +x towards +y, modulo 180."),
            column("visible", pa.float64(), "", "Share of the template's weight on unmasked pixels, 0 to 1."),
            column("fwhm_px", pa.float64(), "pix", "FWHM of the Moffat PSF at this place, as seen in the image."),
            column("beta", pa.float64(), "", "Slope of that Moffat PSF."),
            column("box_xmin", pa.int32(), "pix", "Box around it, 0-based, inclusive."),
            column("box_xmax", pa.int32(), "pix", "See box_xmin."),
            column("box_ymin", pa.int32(), "pix", "See box_xmin."),
            column("box_ymax", pa.int32(), "pix", "See box_xmin."),
        ]
    ),
)


TRUTH_OBJECT = TableOf(
    "truth_object",
    pa.schema(
        [
            column("kind", pa.string(), "", "star | galaxy"),
            column("detector", pa.int32(), "", "Detector."),
            column("ra", pa.float64(), "deg", "Right ascension (ICRS)."),
            column("dec", pa.float64(), "deg", "Declination (ICRS)."),
            *(column(f"{band}_mag", pa.float32(), "mag(AB)", f"Magnitude in {band}.") for band in BANDS),
            column("halfLightRadius", pa.float32(), "arcsec", "Along the major axis; 0 for a star."),
            column("axisRatio", pa.float32(), "", "Minor over major axis; 1 for a star."),
            column("positionAngle", pa.float32(), "deg", "Of the major axis, north through east, modulo 180."),
            column("sersic", pa.float32(), "", "Sersic index; 0 for a star."),
        ]
    ),
)
