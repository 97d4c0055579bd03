"""The command ``deltasweep``: verbs only; what they do lies in the modules they import.

Imports stay inside the verbs, so that ``plan``, ``status`` and ``query`` answer without loading torch.
"""

import json
import os
import sys
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from jobs.errors import Code, DeltaSweepError, InvalidRequest
from jobs.printable import one_line, printable
from orchestrator import cli_catalog, cli_data, cli_errors, prices, streams
from orchestrator.cli_errors import Commands, ExitCode, Interrupted
from orchestrator.hanging import HANG_AFTER_MINUTES
from orchestrator.prices import DEFAULT_GPU
from orchestrator.signals import interrupt, stop_signals_to
from orchestrator.terminal import Terminal

if TYPE_CHECKING:
    import pyarrow as pa

    from jobs.results import Store
    from jobs.study import Study
    from orchestrator.launch import Spending, Summary

app = typer.Typer(
    cls=Commands,
    help="Run studies of transfer-learning trials and turn them into accuracy-delta curves.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(cli_catalog.models, name="models")
app.add_typer(cli_data.data, name="data")

out = Terminal()
err = Terminal(stderr=True)


StudyName = Annotated[
    str, typer.Argument(help="A packaged study's name, or the path of a study file.", metavar="STUDY")
]
Root = Annotated[str, typer.Option("--results", help="The results root: a directory, s3:// or gs://.", metavar="ROOT")]
MaybeRoot = Annotated[str | None, typer.Option("--results", help="The results root, to leave out what it has.")]
Address = Annotated[str | None, typer.Option("--address", help="A Ray cluster; by default Ray is started here.")]
Submit = Annotated[
    bool, typer.Option("--submit", help="Have the cluster's head run it; --address is its dashboard (http://...).")
]
GpuName = Annotated[str, typer.Option("--gpu", help=f"What runs it: {', '.join(prices.names())}.")]
Price = Annotated[float | None, typer.Option(help="US dollars for an hour of one GPU; by default a list price.")]
MaxCost = Annotated[float | None, typer.Option(help="US dollars; stop before the cluster's hours pass it.")]
MaxHours = Annotated[float | None, typer.Option(help="Stop, with everything saved, before so many hours have passed.")]
HangAfter = Annotated[
    float,
    typer.Option(metavar="MINUTES", help="An actor that shows no progress for longer is ended; see docs/guide.md."),
]
_REPORT_PLACE = "A directory; by default ROOT/report, for a root in an object store NAME-report in this directory."
AcceptNumerics = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[KIND:]N", help="Count results of older numerics (of one kind) as done, from N on; may be repeated."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def demo(
    results: Root = "demo-results",
    full: Annotated[
        bool, typer.Option("--full", help="Also why: six sources, attacked, weighed and looked into.")
    ] = False,
) -> None:
    """Run the packaged study `demo` on bundled models and data, and report on it."""
    summaries = _demonstrate(["demo-full", *_more_demos()] if full else ["demo"], results)
    if full and not _is_over(summaries[-1]):
        # nine recipes; in the same root each would be a curve of its own in every figure
        summaries += _demonstrate(["demo-confound"], f"{results.rstrip('/')}-confound")
    raise typer.Exit(max(map(_exit_code, summaries)))


def _demonstrate(names: list[str], root: str) -> list["Summary"]:
    """Run packaged studies one after another on one root, and report on it."""
    import analysis
    from orchestrator.study_files import load_study

    summaries: list[Summary] = []
    for name in names:
        summaries.append(_launch(load_study(name), root))
        if _is_over(summaries[-1]):
            break
    if summaries[0].done and _exit_code(summaries[-1]) is not ExitCode.TRY_AGAIN:
        out.print("\nAccuracy of each source minus the natural one's, in percentage points (paired t, 95 %):\n")
        out.print(_text(analysis.deltas(root), "table"))
        out.print(f"Report: {analysis.report(root)}")
    return summaries


@app.command()
def plan(
    study: StudyName,
    results: MaybeRoot = None,
    gpu: GpuName = DEFAULT_GPU,
    price: Price = None,
    spot_price: Annotated[float | None, typer.Option(help="US dollars for an hour of one GPU on spot.")] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Time real steps on this machine's device.")] = False,
    accept_numerics: AcceptNumerics = None,
    as_json: Json = False,
) -> None:
    """Say what a study amounts to: trials, work, time, money, memory, disk, and what of it is done already."""
    from jobs import registry
    from jobs.checks import require_all_possible
    from jobs.expansion import expand
    from jobs.results import quarantined, read_failures
    from orchestrator.earlier import Earlier, earlier_versions
    from orchestrator.finished import Standing, standing
    from orchestrator.names import require_same_names
    from orchestrator.older_numerics import accepted_numerics
    from orchestrator.plan import describe, make_plan
    from orchestrator.study_files import load_study

    accept = accepted_numerics(accept_numerics or ())
    loaded = load_study(study)
    known, blocked, earlier = Standing(set(), {}), set[str](), Earlier()
    with registry.using(loaded.cards):
        specs = expand(loaded)
        require_all_possible(specs)
        if results:
            store = _opened(results)
            require_same_names(loaded, store)
            by_id = {spec.trial_id: spec for spec in specs}
            known, earlier = standing(store, by_id, accept), earlier_versions(store, loaded, by_id)
            blocked = quarantined(read_failures(store))
        measured = None
        if measure:
            from orchestrator.measured import measured_seconds

            measured = measured_seconds(specs)
        gpu_offer = prices.gpu(gpu, price, spot_price)
        made = make_plan(
            loaded, specs, known.done, blocked, gpu_offer, measured, known.older, known.damaged, earlier.trials
        )
    if as_json:
        _print_json(made.plain())
    else:
        said = [describe(made, loaded, known.about_older(accept)), *earlier.about, *known.about_damaged]
        out.print("\n".join(said))


@app.command()
def launch(
    study: StudyName,
    results: Root,
    address: Address = None,
    submit: Submit = False,
    max_trials: Annotated[int | None, typer.Option(min=1, help="Run at most so many of the pending trials.")] = None,
    max_cost: MaxCost = None,
    max_hours: MaxHours = None,
    hang_after: HangAfter = HANG_AFTER_MINUTES,
    gpu: GpuName = DEFAULT_GPU,
    price: Price = None,
    accept_numerics: AcceptNumerics = None,
) -> None:
    """Run what is pending of a study, through Ray Tune."""
    from orchestrator.older_numerics import accepted_numerics
    from orchestrator.study_files import is_path, load_study

    accepted_numerics(accept_numerics or ())  # a wrong one is not submitted
    loaded = load_study(study)
    spending = _spending(max_cost, gpu, price)
    if submit:
        options = _given(
            max_trials=max_trials,
            max_cost=max_cost,
            max_hours=max_hours,
            hang_after=hang_after if hang_after != HANG_AFTER_MINUTES else None,
            gpu=gpu,
            price=price,
            accept_numerics=accept_numerics,
        )
        file = Path(study) if is_path(study) else None
        _submit(address, results, loaded.name, "launch", options if file else [study, *options], file)
    summary = _launch(
        loaded,
        results,
        address,
        max_trials=max_trials,
        spending=spending,
        accept_numerics=accept_numerics,
        max_hours=max_hours,
        hang_after=hang_after,
    )
    raise typer.Exit(_exit_code(summary))


@app.command()
def resume(
    results: Root,
    study: Annotated[str | None, typer.Option("--study", help="A study of this root; by default the last.")] = None,
    retry_quarantined: Annotated[bool, typer.Option(help="Run quarantined trials again, too.")] = False,
    address: Address = None,
    submit: Submit = False,
    max_cost: MaxCost = None,
    max_hours: MaxHours = None,
    hang_after: HangAfter = HANG_AFTER_MINUTES,
    gpu: GpuName = DEFAULT_GPU,
    price: Price = None,
    accept_numerics: AcceptNumerics = None,
) -> None:
    """Go on with a study of a results root: what is planned, not done and not quarantined."""
    from orchestrator.older_numerics import accepted_numerics

    accepted_numerics(accept_numerics or ())  # a wrong one is not submitted
    if submit:  # the root is for the cluster's machines to read
        options = [*_given(study=study), *(["--retry-quarantined"] if retry_quarantined else [])]
        options += _given(
            max_cost=max_cost,
            max_hours=max_hours,
            hang_after=hang_after if hang_after != HANG_AFTER_MINUTES else None,
            gpu=gpu,
            price=price,
            accept_numerics=accept_numerics,
        )
        _submit(address, results, study, "resume", options)
    from orchestrator.recorded import recorded_study

    found = recorded_study(_opened(results), study)
    spending = _spending(max_cost, gpu, price)
    summary = _launch(
        found,
        results,
        address,
        retry_quarantined=retry_quarantined,
        spending=spending,
        accept_numerics=accept_numerics,
        max_hours=max_hours,
        hang_after=hang_after,
    )
    raise typer.Exit(_exit_code(summary))


@app.command()
def status(
    results: Root,
    study: Annotated[str | None, typer.Option("--study", help="A study of this root; by default the last.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every few seconds.")] = False,
    accept_numerics: AcceptNumerics = None,
    as_json: Json = False,
) -> None:
    """Say how far a study is: every trial is done, running, pending, failed, quarantined or damaged."""
    from orchestrator.older_numerics import accepted_numerics
    from orchestrator.recorded import recorded_study
    from orchestrator.status import describe, status_of, watch_status

    accept = accepted_numerics(accept_numerics or ())
    store = _opened(results)
    found = recorded_study(store, study)
    if watch:
        watch_status(store, found, out, accept)
        return
    now = status_of(store, found, accept=accept)
    if as_json:
        _print_json(now.counts())
    else:
        out.print(describe(now))


@app.command()
def logs(
    trial: Annotated[str, typer.Argument(help="A trial id, or its last 16 digits.", metavar="TRIAL")], results: Root
) -> None:
    """Print the logs of a trial's failed attempts."""
    from orchestrator.status import failed_attempts

    for text in failed_attempts(_opened(results), trial):
        out.print(text)


@app.command()
def run(
    study: StudyName,
    trial: Annotated[str, typer.Option("--trial", help="A trial id of the study, or its last 16 digits.")],
    results: Root,
) -> None:
    """Run one trial in this process, without Ray, for debugging."""
    from jobs.results import open_store
    from orchestrator.single import run_single
    from orchestrator.study_files import load_study

    run_single(load_study(study), trial, open_store(results), out)


@app.command()
def query(
    sql: Annotated[str, typer.Argument(help="One SELECT over evaluations, trials and failures.", metavar="SQL")],
    results: Root,
    form: Annotated[Literal["table", "csv", "json", "parquet"], typer.Option("--format")] = "table",
    timeout: Annotated[
        float | None, typer.Option(help="End a query that takes longer to answer.", metavar="SECONDS")
    ] = None,
) -> None:
    """Ask the results a question in SQL."""
    import analysis

    if timeout is not None and not 0 < timeout < threading.TIMEOUT_MAX:
        raise InvalidRequest(
            Code.WRONG_VALUE,
            f"expected --timeout in seconds, above 0; got {timeout:g}. Fix: leave it out to let a query take any time",
            key="--timeout",
        )
    table = analysis.query(results, sql, timeout=timeout)
    if form != "parquet":
        sys.stdout.write(_text(table, form))
    elif sys.stdout.isatty():
        raise InvalidRequest(
            Code.WRONG_VALUE,
            "parquet is not for a terminal; send it into a file: ... --format parquet > FILE",
            key="--format",
        )
    else:
        sys.stdout.buffer.write(analysis.formats.parquet(table))


@app.command()
def deltas(
    results: Root,
    baseline: Annotated[str | None, typer.Option(help="The source to subtract; by default the study's.")] = None,
    study: Annotated[
        str | None, typer.Option(help="Only cells of this study, and its contrasts.", metavar="NAME")
    ] = None,
    source: Annotated[list[str] | None, typer.Option(help="Only this source; may be repeated.", metavar="NAME")] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(help="Only this dataset; may be repeated.", metavar="NAME")
    ] = None,
    blocks: Annotated[
        list[int] | None,
        typer.Option(help="Only so many fine-tuned blocks (-1: all of them); may be repeated.", metavar="N"),
    ] = None,
    epoch: Annotated[
        str | None,
        typer.Option(
            help="A number, last or all; by default the last and those that contrasts were declared at.",
            metavar="EPOCH",
        ),
    ] = None,
    form: Annotated[Literal["table", "csv", "json"], typer.Option("--format")] = "table",
) -> None:
    """Print accuracy deltas with confidence intervals.

    Holm's correction is over all cells of the contrasts that a study
    declared: narrowing the question does not change it. Without contrasts,
    and for imported trials, it is over the cells asked for.
    """
    import analysis
    from analysis.frames import epoch_of

    found = analysis.deltas(
        results,
        baseline,
        study,
        epoch=epoch_of(epoch) if epoch is not None else None,
        source=source or None,
        dataset=dataset or None,
        blocks=blocks or None,
    )
    sys.stdout.write(_text(found, form))


@app.command()
def report(
    results: Root,
    folder: Annotated[Path | None, typer.Option("--out", help=_REPORT_PLACE)] = None,
    compare_paper: Annotated[
        bool, typer.Option("--compare-paper", help="Put means beside the paper's, curves beside imported trials'.")
    ] = False,
) -> None:
    """Write figures, tables and a page."""
    import analysis

    out.print(f"Report: {analysis.report(results, out=folder, compare_paper=compare_paper)}")


@app.command("import-trials")
def import_trials(
    file: Annotated[Path, typer.Argument(help="A CSV file: tidy, or as the paper's authors published theirs.")],
    results: Root,
) -> None:
    """Put trials from elsewhere into a results root, marked as imported."""
    import analysis

    done = analysis.import_trials(file, results)
    out.print(
        f"{done.trials} trials ({done.rows} rows): {done.new} new, {done.already_there} there already, "
        f"{done.conflicts} in conflict with what is there"
    )


@app.command()
def compact(results: Root) -> None:
    """Merge the results of finished trials into an index, so that reading them takes no time."""
    from jobs.results import compact, done, kinds, open_store, require_root

    store = open_store(results)
    require_root(store)
    for kind in kinds():
        if kind == "finetune" or done(store, kind):
            made = compact(store, kind)
            already = "" if made.written else " already"
            out.print(f"The index covers {made.trials:,} trials of {kind} ({made.rows:,} rows){already}.")


@app.command()
def merge(
    roots: Annotated[list[str], typer.Argument(help="Results roots; they stay as they are.", metavar="ROOT...")],
    results: Annotated[str, typer.Option("--results", help="Where they are joined: a new root, or one that is there.")],
) -> None:
    """Join results roots: each trial once; conflicts, and what is left out, are named."""
    from analysis.words import counted
    from jobs.results import merge, open_store

    done = merge([open_store(root) for root in roots], open_store(results))
    out.print(f"{counted(done.trials, 'trial')} brought to {results}; {done.already_there} there already.")
    if done.other_devices:
        out.print(
            f"{done.other_devices} of these have other numbers from another kind of device or another torch; those of "
            "the first root stand."
        )
    for trial in done.examinations_left_out:
        out.print(f"left out: {trial}: it looked at a network of which another root's trial stands")
    for trial in done.conflicts:
        out.print(f"conflict: {trial}: other numbers from the same kind of device; deltasweep verify says more")
    raise typer.Exit(ExitCode.SOME_FAILED if done.conflicts else ExitCode.ALL_DONE)


@app.command()
def verify(results: Root) -> None:
    """Read a whole results root and say everything that is wrong with it."""
    from analysis.words import counted
    from jobs.results import Problem, open_store, require_root, verify
    from orchestrator.recorded import planned_trials

    store = open_store(results)
    require_root(store)
    findings = verify(store, planned_trials(store))
    for finding in findings:
        out.print(one_line(f"{finding.problem}: {finding.advice}"))
    harmful = sum(not finding.problem.harmless for finding in findings)
    mixed = sum(finding.problem is Problem.MIXED for finding in findings)
    of_several = f" {counted(mixed, 'trial')} ran on several kinds of device, or by several torch." if mixed else ""
    out.print(f"{harmful} problems, {len(findings) - harmful} things to know.{of_several}")
    raise typer.Exit(ExitCode.SOME_FAILED if harmful else ExitCode.ALL_DONE)


def main() -> None:
    """Entry point. Every error is one message on standard error, and an exit code (``orchestrator.cli_errors``).

    Where the command line asks for JSON, errors are JSON on standard output besides.
    """
    warnings.formatwarning = lambda message, *_, **__: printable(f"deltasweep: warning: {message}\n")
    with streams.dependable() as standard:
        code = _run()
        if (lost := standard.lost) is not None:
            err.print(f"deltasweep: standard output is not all there: {lost.strerror}")
            code = code or ExitCode.TRY_AGAIN
    sys.exit(code)


def _run() -> int:
    """Run the command line; returns its exit code."""
    try:
        with stop_signals_to(interrupt):
            _require_directory()
            app()
    except (KeyboardInterrupt, Interrupted):
        err.print("deltasweep: interrupted")
        return ExitCode.INTERRUPTED
    except SystemExit as ended:
        if (wrong := cli_errors.of_usage(ended)) is not None:
            _print_if_asked(wrong)
        return ended.code if isinstance(ended.code, int) else ExitCode.ALL_DONE
    except Exception as error:  # noqa: BLE001  # what no one expected is told and kept, too
        expected = cli_errors.of_any(error)
        err.print(f"deltasweep: {expected}")
        _print_if_asked(expected)
        return cli_errors.exit_code_of(expected.code)
    return ExitCode.ALL_DONE


def _require_directory() -> None:
    try:
        os.getcwd()  # noqa: PTH109  # Path.cwd() is the same call
    except FileNotFoundError as error:
        raise InvalidRequest(
            Code.WRONG_PLACE, "the directory in which this command was started is gone. Fix: cd to one that is there"
        ) from error


def _print_if_asked(error: DeltaSweepError) -> None:
    if cli_errors.wants_json(sys.argv[1:]):
        sys.stdout.write(json.dumps(error.plain()) + "\n")


def _print_json(value: object) -> None:
    out.print_json(json.dumps(value), ensure_ascii=not streams.is_unicode(sys.stdout))


def _opened(results: str) -> "Store":
    """The store of a results root whose layout this version knows."""
    from jobs.results import open_store, require_layout

    store = open_store(results)
    require_layout(store)
    return store


def _launch(
    study: "Study",
    results: str,
    address: str | None = None,
    max_trials: int | None = None,
    retry_quarantined: bool = False,
    spending: "Spending | None" = None,
    accept_numerics: list[str] | None = None,
    max_hours: float | None = None,
    hang_after: float = HANG_AFTER_MINUTES,
) -> "Summary":
    from jobs.results import open_store
    from orchestrator.launch import Options, launch
    from orchestrator.older_numerics import accepted_numerics

    again = ["deltasweep resume", *_given(results=results, study=study.name, accept_numerics=accept_numerics)]
    to_go_on = f"To go on: {' '.join(again)}"
    try:
        accepted = accepted_numerics(accept_numerics or ())
        options = Options(address, max_trials, retry_quarantined, spending, accepted, max_hours, hang_after)
        summary = launch(study, open_store(results), out, options)
    except KeyboardInterrupt:  # while Ray starts, or the second one
        out.print(f"\nInterrupted; nothing that was committed is lost. {to_go_on}")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    out.print(f"{summary.done} of {summary.planned} trials are done.")
    for trial, reason in summary.failed.items():
        out.print(one_line(f"failed: {trial}: {reason}"))
    if summary.stop_reason:
        out.print(one_line(f"Stopped: {summary.stop_reason.rstrip('.')}."))
    if summary.left:
        out.print(to_go_on)
    elif summary.failed:
        out.print(f"When the cause is fixed: {to_go_on.removeprefix('To go on: ')} --retry-quarantined")
    return summary


def _is_over(summary: "Summary") -> bool:
    """Whether what comes after a launch has to wait, too: it was interrupted, or its root or a machine fails."""
    return _exit_code(summary) in (ExitCode.INTERRUPTED, ExitCode.TRY_AGAIN)


def _more_demos() -> list[str]:
    """What `demo --full` runs besides `demo-full`. Attacks on the sources need Fashion-MNIST's images."""
    from jobs import registry
    from jobs.data.places import find

    more = ["demo-claims", "demo-texture", "demo-shape", "demo-fourier"]
    if find(registry.dataset("fmnist")) is not None:
        return [*more, "demo-sources"]
    out.print("Fashion-MNIST is not here: attacks on the sources are left out (deltasweep data fetch fmnist).")
    return more


def _given(**options: object) -> list[str]:
    """Options as on a command line, lists as often as they are long; those that were not given are left out."""
    given = {f"--{name.replace('_', '-')}": value for name, value in options.items() if value is not None}
    several = [(name, value if isinstance(value, list) else [value]) for name, value in given.items()]
    return [text for name, values in several for one in values for text in (name, str(one))]


def _submit(
    address: str | None, results: str, study: str | None, verb: str, options: list[str], file: Path | None = None
) -> NoReturn:
    """Run a verb on a cluster's head, and print what it prints; its exit code is ours."""
    from orchestrator.submit import Ending, listen, require_submittable, submit

    submission = submit(require_submittable(address, results), verb, [*options, "--results", results], file)
    of_study = f" --study {study}" if study else ""
    come_back = (
        f"Look: deltasweep status --watch --results {results}{of_study}\n"
        f"Listen: {submission.logs_command()}\n"
        f"Stop: {submission.stop_command()}\n"
        f"On a new cluster: deltasweep resume --submit --address {address} --results {results}{of_study}"
    )
    out.print(f"Submitted as {submission.job}. Ctrl-C leaves it running.\n{come_back}\n")
    heard = listen(submission, lambda text: out.print(text, end=""))
    if heard.ending is Ending.FINISHED:
        if heard.exit_code is None:
            out.print(f"The job ended without an exit code: {heard.message}")
        raise typer.Exit(ExitCode.SOME_FAILED if heard.exit_code is None else heard.exit_code)
    why = "Detached" if heard.ending is Ending.DETACHED else f"The connection was lost ({heard.message})"
    out.print(f"\n{why}; the job {submission.job} goes on.\n{come_back}")
    raise typer.Exit(ExitCode.INTERRUPTED)


def _spending(max_cost: float | None, gpu: str, price: float | None) -> "Spending | None":
    from orchestrator.budget import require_amount
    from orchestrator.launch import Spending

    known = prices.gpu(gpu, price)
    if max_cost is None:
        return None
    require_amount(max_cost)
    return Spending(max_cost, known.on_demand)


def _text(table: "pa.Table", form: Literal["table", "csv", "json"]) -> str:
    """A table as text; only a terminal's width folds it."""
    from analysis import formats

    return formats.text(table, form, out.width) if sys.stdout.isatty() else formats.text(table, form)


def _exit_code(summary: "Summary") -> ExitCode:
    from orchestrator.outcomes import StopCause

    if summary.interrupted:
        return ExitCode.INTERRUPTED
    if summary.stop is not None and summary.stop.cause in (StopCause.STORAGE, StopCause.MACHINE):
        return ExitCode.TRY_AGAIN
    return ExitCode.SOME_FAILED if summary.failed or summary.stop_reason else ExitCode.ALL_DONE
