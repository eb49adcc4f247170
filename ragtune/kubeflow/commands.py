"""The commands of pipeline.py that talk to a KFP server: submit, schedule, runs, schedules, stop."""

import argparse
import sys
from datetime import datetime
from typing import Any

from kfp.dsl.graph_component import GraphComponent

from ragtune.errors import ParameterError
from ragtune.kubeflow import client, schedule, watching
from ragtune.kubeflow.connection import Connection, connect
from ragtune.kubeflow.images import without_registry
from ragtune.kubeflow.package import Package, upload
from ragtune.kubeflow.parameters import check_values, read_parameters, with_defaults
from ragtune.kubeflow.pods import VOLUME, fitted
from ragtune.kubeflow.run_folder import table
from ragtune.settings.pipeline import SKIP

COMMANDS = ("submit", "schedule", "runs", "schedules", "stop")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def add_commands(commands: Any) -> None:
    """Add the subcommands to those of pipeline.py (an argparse object of subparsers)."""
    submitting = commands.add_parser("submit", allow_abbrev=False, help="start a run on a KFP server")
    _add_parameters(submitting, required=True)
    submitting.add_argument("--name", default="", help="name of the run (default: the pipeline's and the time)")
    submitting.add_argument(
        "--wait", action="store_true", help="watch it to its end; exit with 1 if it did not succeed"
    )
    _add_waiting(submitting)

    scheduling = commands.add_parser(
        "schedule", allow_abbrev=False, help="start runs by a schedule, in place of one of the same name"
    )
    scheduling.add_argument("name", help="name of the schedule; with --pause, --resume and --delete also its id")
    _add_parameters(scheduling, required=False)
    action = scheduling.add_mutually_exclusive_group(required=True)
    action.add_argument("--cron", default="", help='5 fields, such as "0 3 * * 1", or 6 with the second first')
    action.add_argument("--every", type=_seconds, default=0, metavar="TIME", help="interval, such as 12h, 1d or 90m")
    action.add_argument("--pause", action="store_true", help="start no further runs")
    action.add_argument("--resume", action="store_true", help="start runs again")
    action.add_argument("--delete", action="store_true", help="delete the schedule; its runs are kept")
    scheduling.add_argument("--pinned", action="store_true", help="always run today's version, not the newest")
    scheduling.add_argument(
        "--at-once", type=int, default=1, metavar="N", help="most runs at the same time (default 1)"
    )
    _add_zone(scheduling)

    listing = commands.add_parser("runs", allow_abbrev=False, help="list runs, or show one")
    listing.add_argument("run", nargs="?", default="", help="id of one run")
    listing.add_argument("--experiment", default="", help="list the runs of this experiment alone")
    listing.add_argument("--most", type=int, default=20, metavar="N", help="number of runs to list (default 20)")
    listing.add_argument("--wait", action="store_true", help="watch the one run to its end")
    _add_waiting(listing)
    schedules = commands.add_parser("schedules", allow_abbrev=False, help="list schedules and their next runs")
    _add_zone(schedules)
    stopping = commands.add_parser("stop", allow_abbrev=False, help="stop a run")
    stopping.add_argument("run", help="id of the run")
    for parser in (submitting, scheduling, listing, schedules, stopping):
        _add_connection(parser)


def add_images(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name other images when the pipeline is compiled."""
    parser.add_argument(
        "--registry", default="", help="registry of the images, with its path, such as registry.example.org/me"
    )
    parser.add_argument("--tag", default="", help="tag of the images (default: this version)")
    parser.add_argument(
        "--image", action="append", default=[], metavar="NAME=REF", help="reference of one image, such as by its digest"
    )


def images_given(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `add_images` that are given, as those of `set_images`."""
    given = {"registry": options.registry, "tag": options.tag, "named": options.image}
    return {name: value for name, value in given.items() if value}


def execute(options: argparse.Namespace, pipeline: GraphComponent) -> None:
    """Carry out one of COMMANDS.

    Raises:
        RagtuneError: a parameter, the server or the run is at fault.
    """
    if options.command == "submit":
        _submit(options, pipeline)
    elif options.command == "schedule":
        _schedule(options, pipeline)
    elif options.command == "runs":
        _runs(options, pipeline)
    elif options.command == "schedules":
        _schedules(options)
    else:
        state = client.stop(_connect(options), options.run)
        print(f"{options.run}: had ended already, {state}" if state in client.ENDED else f"{options.run}: is stopping")


def _submit(options: argparse.Namespace, pipeline: GraphComponent) -> None:
    package, values = _package_and_values(options, pipeline)
    connection = _connect(options)
    version = upload(connection, package)
    print(f"{'uploaded' if version.uploaded else 'unchanged:'} the version {version.name}")
    name = options.name or f"{package.name} {datetime.now():%Y-%m-%d %H:%M}"
    experiment = options.experiment or package.name
    run_id = client.submit(connection, version, values, experiment, name, options.service_account)
    print(f"run {run_id} in the experiment {experiment}\n{watching.page(connection, run_id)}")
    if options.wait:
        _wait(options, connection, run_id, package)


def _schedule(options: argparse.Namespace, pipeline: GraphComponent) -> None:
    if options.pause or options.resume or options.delete:
        connection = _connect(options)
        one = schedule.find(connection, options.name)
        act = schedule.pause if options.pause else schedule.resume if options.resume else schedule.delete
        act(connection, one)
        print(f"{one.display_name}: {'paused' if options.pause else 'resumed' if options.resume else 'deleted'}")
        return
    if not options.params:
        raise ParameterError("--params: a schedule needs a file of parameters, see params/")
    when, zone = schedule.trigger(options.cron, options.every), schedule.zone(options.time_zone)
    # Whoever starts one run wants it; of a schedule's runs those that would change nothing cost a training each.
    package, values = _package_and_values(options, pipeline, when_unchanged=SKIP)
    connection = _connect(options)
    version = upload(connection, package, newest=not options.pinned)
    made = schedule.schedule(
        connection,
        version,
        values,
        options.experiment or package.name,
        options.name,
        when,
        options.pinned,
        options.at_once,
        options.service_account,
    )
    print(f"schedule {options.name} ({made.recurring_run_id})")
    print(f"version  {f'{version.name}, always' if options.pinned else f'the newest, today {version.name}'}")
    for old in made.retired:
        print(f"retired  {old}")
    ends = values["registry_when_unchanged"] == SKIP
    print(f"sources  unchanged ones {'end a run early' if ends else 'are trained on again'}")
    _print_times(schedule.find(connection, made.recurring_run_id), zone)


def _runs(options: argparse.Namespace, pipeline: GraphComponent) -> None:
    connection = _connect(options)
    if options.run and options.wait:
        _wait(options, connection, options.run, Package.compile(pipeline))
        return
    runs = [client.get_run(connection, options.run)] if options.run else []
    for run in runs or client.list_runs(connection, options.experiment, options.most):
        print(f"{run.run_id}  {run.created_at:%Y-%m-%d %H:%M}  {run.state:<10} {run.display_name}")


def _schedules(options: argparse.Namespace) -> None:
    zone = schedule.zone(options.time_zone)
    for one in schedule.list_schedules(_connect(options)):
        reference = one.pipeline_version_reference
        pinned = reference and reference.pipeline_version_id
        print(f"{one.display_name} ({one.recurring_run_id})")
        print(f"version  {f'always {pinned}' if pinned else 'the newest' if reference else 'its own'}")
        _print_times(one, zone)


def _print_times(one: Any, zone: Any) -> None:
    print(f"runs     {schedule.in_words(one)}")
    if one.status == "DISABLED":
        print(f"paused   until `python pipeline.py schedule {one.recurring_run_id} --resume`")
    for time in schedule.next_times(one, datetime.now(zone)):
        print(f"next     {time:%a %Y-%m-%d %H:%M:%S %Z}")
    if one.trigger.cron_schedule:
        print("         a cron's hours are those of KFP's controller: UTC, unless its CRON_SCHEDULE_TIMEZONE is set;")
        print("         give that as --time-zone to see the next runs as they will be")


def _wait(options: argparse.Namespace, connection: Connection, run_id: str, package: Package) -> None:
    try:
        metrics = watching.wait(connection, run_id, package.boxes(), print, options.look_every, options.longest)
    except KeyboardInterrupt:
        print(f"\nthe run goes on; to stop it: python pipeline.py stop {run_id}", file=sys.stderr)
        raise
    if metrics:
        print("\n" + table(metrics))


def _package_and_values(
    options: argparse.Namespace, pipeline: GraphComponent, **otherwise: Any
) -> tuple[Package, dict[str, Any]]:
    """The pipeline to run, and values other than its defaults, by their names in KFP; `otherwise` if not given."""
    images = images_given(options)
    if options.package and images:
        raise ParameterError(f"--package {options.package}: has its images; give --registry and the like to `compile`")
    given = otherwise | read_parameters(pipeline.pipeline_func, options.params, options.set)
    check_values(with_defaults(pipeline.pipeline_func, given))
    pipeline, values = fitted(pipeline, given)
    package = Package.read(options.package) if options.package else Package.compile(pipeline, images)
    if options.package:
        _check_volume(options.package, package, given.get("workspace_volume") != "")
    if bare := without_registry(package.text):
        print(f"note: the cluster's nodes must have {', '.join(bare)}; to have them pulled, give --registry")
    return package, values


def _check_volume(file: str, package: Package, wanted: bool) -> None:
    """Refuse a file that mounts a volume which the parameters do not want, or lacks one that they do."""
    if wanted and VOLUME not in package.parameters:
        raise ParameterError(f"--package {file}: mounts no volume; add --set workspace_volume= or compile another one")
    if not wanted and VOLUME in package.parameters:
        raise ParameterError(
            f"--package {file}: mounts a volume; compile one with --no-volume, or name workspace_volume"
        )


def _connect(options: argparse.Namespace) -> Connection:
    return connect(options.host, options.namespace, options.token_file, options.cookies_file, options.ca_file)


def _seconds(text: str) -> int:
    unit = _UNITS.get(text[-1:], 0)
    number = text[:-1] if unit else text
    if not number.isdigit() or int(number) < 1:
        raise argparse.ArgumentTypeError(f"{text}: write it as 90m, 12h or 1d")
    return int(number) * (unit or 1)


def _add_parameters(parser: argparse.ArgumentParser, required: bool) -> None:
    parser.add_argument(
        "--params", required=required, default="", metavar="FILE", help="YAML file of parameters, see params/"
    )
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="override one parameter")
    parser.add_argument(
        "--experiment", default="", help="experiment of the run, made if need be (default: the pipeline's name)"
    )
    parser.add_argument("--package", default="", metavar="FILE", help="compiled pipeline (default: compiled now)")
    add_images(parser)
    parser.add_argument("--service-account", default="", help="service account of the pods (default: KFP's)")


def _add_waiting(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--longest", type=_seconds, default=0, metavar="TIME", help="longest time to watch, such as 12h"
    )
    parser.add_argument(
        "--look-every",
        type=float,
        default=watching.EVERY,
        metavar="SECONDS",
        help="seconds between two looks (default 10)",
    )


def _add_zone(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--time-zone", default="UTC", help="time zone of KFP's controller, to show the next runs (default UTC)"
    )


def _add_connection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="", help="KFP's address (default KF_PIPELINES_ENDPOINT, or this cluster's)")
    parser.add_argument("--namespace", default="", help="namespace of your profile, where KFP has users")
    parser.add_argument(
        "--token-file", default="", metavar="FILE", help="file of a bearer token; read again for every request"
    )
    parser.add_argument("--cookies-file", default="", metavar="FILE", help="file of a session's cookies, for Dex")
    parser.add_argument("--ca-file", default="", metavar="FILE", help="CA bundle (PEM) that signed its certificate")
