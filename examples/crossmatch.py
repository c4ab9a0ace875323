"""Cross-match of the objects of a night with a catalogue of one's own, with LSDB.

First: nightstride export OUT --dataset object --to object.hats
Then:  python examples/crossmatch.py object.hats mine.csv --radius 1.0 --to matches.csv
"""

import argparse

import lsdb
import pandas as pd


def crossmatch(objects: str, mine: str, radius: float) -> pd.DataFrame:
    """Return rows of ``mine`` (CSV with columns ra and dec, deg) with the nearest object within ``radius`` arcsec."""
    catalogue = lsdb.open_catalog(objects, columns=["objectId", "ra", "dec", "r_psfMag", "gMinusR", "halfLightRadius"])
    rows = pd.read_csv(mine)
    if missing := sorted({"ra", "dec"} - set(rows.columns)):
        raise SystemExit(f"{mine} has no columns {missing}, only {list(rows.columns)}. Name them ra and dec, deg.")
    # Of two catalogues that are matched only the other one needs a margin around its parts.
    own = lsdb.from_dataframe(rows, ra_column="ra", dec_column="dec", catalog_name="mine", margin_threshold=None)
    try:
        matched = own.crossmatch(catalogue, radius_arcsec=radius, n_neighbors=1, suffixes=("", "_object"))
    except RuntimeError as error:  # LSDB does not match what lies in other parts of the sky
        if "overlap" not in str(error):
            raise
        return rows.iloc[:0]
    return matched.compute().reset_index(drop=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("objects", help="HATS folder of the objects")
    parser.add_argument("mine", help="CSV with columns ra and dec, deg")
    parser.add_argument("--radius", type=float, default=1.0, help="arcsec")
    parser.add_argument("--to", default="matches.csv", help="CSV to write")
    given = parser.parse_args()
    found = crossmatch(given.objects, given.mine, given.radius)
    found.to_csv(given.to, index=False)
    print(f"{len(found)} matches: {given.to}")
