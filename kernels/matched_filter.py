"""Signal to noise of a template in noise as it is."""

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve


def filtered_noise(template: NDArray[np.floating], noise: float, correlation: NDArray[np.floating]) -> float:
    """Give the standard deviation of stationary, correlated noise filtered by ``template``.

    Parameters
    ----------
    template : (ny, nx)
        Filter m.
    noise
        Standard deviation of one pixel, any unit.
    correlation : (2L + 1, 2L + 1)
        Autocorrelation rho of the noise at lags -L..L in y and x; 1 at the centre. ``[[1.0]]`` is white noise.

    Returns
    -------
    float
        noise * sqrt(sum over lags of (m star m)(lag) rho(lag)), in the unit of ``noise``.

    Notes
    -----
    Variance of a linear filter of a stationary process, e.g. Papoulis 1991, *Probability, Random Variables and
    Stochastic Processes*, ch. 10. For white noise it is noise * sqrt(sum(m^2)).
    """
    reach = correlation.shape[0] // 2
    padded = np.pad(np.asarray(template, float), reach)
    own = fftconvolve(padded, np.asarray(template, float)[::-1, ::-1], mode="valid")
    return float(noise * np.sqrt(max(float(np.sum(own * correlation)), 0.0)))


def template_snr(flux: float, template: NDArray[np.floating], noise: float, correlation: NDArray[np.floating]) -> float:
    """Give the matched-filter signal to noise ``flux * sum(m^2) / std(m-filtered noise)``.

    Parameters
    ----------
    flux
        Flux of the source whose image is ``flux * template``; unit of ``noise``.
    template : (ny, nx)
        Unit-flux image m of the source.
    noise, correlation
        See `filtered_noise`.
    """
    return flux * float(np.sum(np.square(template))) / filtered_noise(template, noise, correlation)
