"""Method of ASTRiDE (Kim 2016, ASCL 1605.009; Kim et al. 2005, JASS 22, 385), rewritten from its documentation.

The package itself cannot be installed with current Python. Its steps, with the parameters that its documentation
recommends to leave as they are: the background in boxes of 50 px with clipping is subtracted; contours are traced at 3
times the noise; closed contours of 10 points or more count as streaks if their shape factor 4 pi area / perimeter^2 is
0.2 or less, their area 10 px or more, and the scatter of their radii 0.5 of the median radius or more; streaks whose
slopes, and the slope of the line between their centres, agree to 3 deg are linked into one. ASTRiDE does not rank its
streaks: the area does here.
"""

import numpy as np
from astropy.stats import SigmaClip
from photutils.background import Background2D, MedianBackground
from skimage.measure import find_contours

from flows.results.evaluation.evaluate import Detections, wrapped

BOX = 50
CONTOUR = 3.0
MIN_POINTS = 10
SHAPE_CUT = 0.2
AREA_CUT = 10.0
RADIUS_DEVIATION_CUT = 0.5
CONNECTIVITY_ANGLE = 3.0


def astride_streaks(exposure):
    """Return the streaks on one exposure."""
    level, image = _above_background(exposure)
    contours = find_contours(image, level, fully_connected="high")
    streaks = [row for contour in contours if (row := _streak(contour)) is not None]
    if not streaks:
        return Detections.of(*np.empty((3, 0)))
    return _linked(np.array(streaks))


def _above_background(exposure):
    bad = ~exposure.pixels.usable
    found = Background2D(
        exposure.difference,
        (BOX, BOX),
        mask=bad,
        sigma_clip=SigmaClip(3.0),
        bkg_estimator=MedianBackground(),
        exclude_percentile=90,
    )
    return CONTOUR * found.background_rms_median, np.where(bad, 0.0, exposure.difference - found.background)


def _streak(contour):
    """Return centre x and y, area, angle (deg) and length of a contour (points, (y, x)); None if it is not a streak."""
    if len(contour) < MIN_POINTS or not np.array_equal(contour[0], contour[-1]):
        return None
    y, x = contour[:-1].T
    steps = np.diff(contour, axis=0)
    perimeter = np.hypot(*steps.T).sum()
    area = 0.5 * abs(np.sum(contour[:-1, 1] * contour[1:, 0] - contour[1:, 1] * contour[:-1, 0]))
    if area < AREA_CUT or 4 * np.pi * area > SHAPE_CUT * perimeter**2:
        return None
    radius = np.hypot(x - x.mean(), y - y.mean())
    if radius.std() < RADIUS_DEVIATION_CUT * np.median(radius):
        return None
    (xx, xy), (_, yy) = np.cov(x, y)
    return x.mean(), y.mean(), area, np.degrees(0.5 * np.arctan2(2 * xy, xx - yy)), 2 * radius.max()


def _linked(streaks):
    """Return the detections of streaks (n, 5), pieces of one line joined."""
    x, y, _, angle, _ = streaks.T
    between = np.degrees(np.arctan2(y - y[:, None], x - x[:, None]))
    along = np.abs(wrapped(between - angle)) <= CONNECTIVITY_ANGLE
    alike = np.abs(wrapped(angle - angle[:, None])) <= CONNECTIVITY_ANGLE
    label = _components(along & along.T & alike & ~np.eye(len(x), dtype=bool))
    groups = [np.flatnonzero(label == one) for one in np.unique(label)]
    rows = np.array([_one(streaks[group]) for group in groups])
    return Detections(rows[:, 0], rows[:, 1], rows[:, 2], np.full(len(rows), np.nan), rows[:, 4], rows[:, 3] % 180)


def _components(linked):
    from scipy.sparse.csgraph import connected_components

    return connected_components(linked, directed=False)[1]


def _one(pieces):
    """Return the middle of the outermost ends, sum of areas, angle of the largest piece, length from end to end."""
    x, y, area, angle, length = pieces.T
    main = np.radians(angle[area.argmax()])
    along = x * np.cos(main) + y * np.sin(main)
    low, high = (along - length / 2).min(), (along + length / 2).max()
    across = np.average(y * np.cos(main) - x * np.sin(main), weights=area)
    middle = (low + high) / 2
    return (
        middle * np.cos(main) - across * np.sin(main),
        middle * np.sin(main) + across * np.cos(main),
        area.sum(),
        np.degrees(main),
        high - low,
    )
