"""Which detection sits on which object."""

import pyarrow as pa

from schemas.dataset import TableOf, column


def _float(name: str, unit: str, doc: str) -> pa.Field:
    return column(name, pa.float32(), unit, doc, nullable=True)


DIA_LINK = TableOf(
    "dia_link",
    pa.schema(
        [
            column("diaSourceId", pa.int64(), "", "The detection; those without a sky position are left out."),
            column("objectId", pa.int64(), "", "Object that it sits on, if there is one.", nullable=True),
            _float("separation", "arcsec", "From it to the centre of that object."),
            column("hostObjectId", pa.int64(), "", "Host candidate: of least directional distance.", nullable=True),
            _float("hostSeparation", "arcsec", "From the detection to the centre of the host candidate."),
            _float(
                "hostDlr",
                "",
                "That over the half-light ellipse's radius towards it (Gupta et al. 2016, AJ 152, 154).",
            ),
        ]
    ),
    ids="diaSourceId",
)
