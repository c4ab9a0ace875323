"""What Prefect's pages show of a night: its summary, the way to its page, and how deep it saw."""

import re
from pathlib import Path

from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from flows.deployment.depth_plot import depth_plot
from flows.summary_table import MOST, lines
from schemas.summary import RunSummary, Trouble


def leave(summary: RunSummary, deployment: str, pages: str | None) -> None:
    """Leave the artifacts of a night with the run that this is called in.

    Parameters
    ----------
    summary
        Of the night.
    deployment
        Its name begins the keys, so that each deployment has a history of its own.
    pages
        URL under which ``OUT/reports`` is served; None: the link is that of the file itself.
    """
    stem = re.sub("[^a-z0-9]+", "-", deployment.lower()).strip("-")
    night = " ".join(summary.nights)
    table = [{"what": name, "how much": value} for name, value in lines(summary)]
    create_table_artifact(table, key=f"{stem}-summary", description=f"Night {night}")
    if troubles := (*summary.quarantined, *summary.failed, *summary.night_failed, *summary.quality_failed):
        create_markdown_artifact(_listed(troubles), key=f"{stem}-troubles", description=f"Night {night}")
    if summary.report is not None:
        link = page_url(summary.report, pages)
        create_link_artifact(link, key=f"{stem}-page", link_text=f"Page of night {night}", description=link)
    for one in summary.injection:
        if one.band is None:
            create_image_artifact(depth_plot(one), key=f"{stem}-depth", description=f"Night {one.night}")


def page_url(report: str, pages: str | None) -> str:
    """Give the URL of a night page.

    Parameters
    ----------
    report
        Path or ``s3://`` URL of ``OUT/reports/<night>/index.html``.
    pages
        As in `leave`.
    """
    if pages is not None:
        return f"{pages.rstrip('/')}/{'/'.join(report.split('/')[-2:])}"
    return report if "://" in report else Path(report).as_uri()


def _listed(troubles: tuple[Trouble, ...]) -> str:
    told = [f"- `{one.code}`: {_plain(one.message)}" for one in troubles[:MOST]]
    more = [f"- {len(troubles) - MOST} more: `nightstride status OUT`"] if len(troubles) > MOST else []
    return "\n".join([*told, *more])


def _plain(text: str) -> str:
    """Keep what stands in a message, names of files among it, from being taken for Markdown or HTML."""
    return re.sub(r"([\\`*_{}\[\]<>#|!&])", r"\\\1", " ".join(text.split()))
