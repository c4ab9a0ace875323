"""The command line: one file in flows/commands per command."""

import typer

from flows.commands import bench, evaluate, fetch, services, train
from flows.commands.backfill import backfill
from flows.commands.deploy import deploy
from flows.commands.doctor import doctor
from flows.commands.explain import explain
from flows.commands.export import export
from flows.commands.forced import forced
from flows.commands.models import models
from flows.commands.prune import prune
from flows.commands.quality import quality
from flows.commands.report import report
from flows.commands.run import run
from flows.commands.simulate import simulate
from flows.commands.status import status
from flows.commands.verify import verify
from flows.commands.watch import watch

app = typer.Typer(
    name="nightstride",
    help="Difference images in, a measured catalogue of moving objects and a night page out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

app.command()(run)
app.command()(backfill)
app.command()(watch)
app.command()(deploy)
app.command()(simulate)
app.command()(forced)
app.command()(verify)
app.command()(status)
app.command()(explain)
app.command()(models)
app.command()(quality)
app.command()(prune)
app.command()(export)
app.command()(report)
app.command()(doctor)
app.add_typer(fetch.app, name="fetch")
app.add_typer(services.app, name="services")
app.add_typer(train.app, name="train")
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(bench.app, name="bench")
