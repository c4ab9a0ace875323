"""Sources and objects on science images: shapes, fluxes, cutouts, classes."""
