"""The night page: one HTML file that needs nothing else."""

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from flows.results.evaluation.truth_table import Truth
from flows.results.page.content import LIMITS, Content, content
from flows.results.page.night import read_night
from flows.storage.atomic import write_file
from schemas.summary import RunSummary


def write_report(
    out: Path,
    night: str,
    summary: RunSummary | None = None,
    truth: Truth | None = None,
) -> Path:
    """Write ``OUT/reports/<night>/index.html``.

    Parameters
    ----------
    out
        Output folder of a run.
    night
        Label of the night, YYYYMMDD.
    summary
        Of the run that asks for the page; None if the page is made afterwards.
    truth
        What was put into the exposures; None if that is not known.

    Returns
    -------
    Path
        The page. The same night gives the same bytes.

    Raises
    ------
    Misconfigured
        Something in ``out`` was written by a later version, or the page cannot be written.
    Retryable
        The disk is full.
    """
    path = out / "reports" / night / "index.html"
    page = content(out, read_night(out, night, summary), LIMITS, truth)
    write_file(path, render_page(page).encode(), out / "staging")
    return path


def render_page(page: Content) -> str:
    """Fill in the template; text is escaped, pictures and charts go in as they are."""
    environment = Environment(
        loader=PackageLoader("flows.results.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = Markup(environment.get_template("night.css").render())
    return environment.get_template("night.html.j2").render(page=page, style=style) + "\n"
