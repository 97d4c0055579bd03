"""Verbs that plan and run studies: ``demo``, ``plan``, ``launch``, ``resume``."""

from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from orchestrator.cli.ended import Ended
from orchestrator.cli.exit_codes import ExitCode
from orchestrator.cli.gpu_options import (
    Compare,
    GpuMemory,
    GpuTable,
    GpuTflops,
    PlanGpu,
    SpotPrice,
    comparison_table,
)
from orchestrator.cli.launch_request import as_words, resume_command, submit_verb
from orchestrator.cli.notification import Notify, notifying
from orchestrator.cli.options import (
    AcceptNumerics,
    Address,
    Builders,
    ClusterGpu,
    HangAfter,
    Json,
    LivePage,
    MaxCost,
    MaxHours,
    MaybeRoot,
    Price,
    Quiet,
    Root,
    StudyName,
    StudyOfRoot,
    Submit,
    as_arguments,
)
from orchestrator.cli.output import err, notes, out, print_json, print_table, somebody_looks, table_text
from orchestrator.cli.roots import known_root
from orchestrator.launching.request import HANG_AFTER_MINUTES, LaunchRequest

if TYPE_CHECKING:
    from jobs.study.model import Study

verbs = typer.Typer()


@verbs.command()
def demo(
    results: Root = "demo-results",
    full: Annotated[
        bool,
        typer.Option("--full", help="Run six sources, with attacks, influence functions and feature visualization."),
    ] = False,
    ui: LivePage = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run the packaged study `demo` on bundled models and data, and write a report."""
    request = LaunchRequest(ui=_serves(ui))
    launches, report = _demonstrate(["demo-full", *_more_demos()] if full else ["demo"], results, request)
    reports = [report] if report else []
    if full and not launches[-1].is_over:
        # in the same root, each of its nine recipes would add a curve to every figure
        more, report = _demonstrate(["demo-confound"], f"{results.rstrip('/')}-confound", request)
        launches += more
        reports += [report] if report else []
    code = max(ended.exit_code for ended in launches)
    if as_json:
        print_json({"exit_code": code, "launches": [ended.plain() for ended in launches], "reports": reports})
    raise typer.Exit(code)


def _serves(ui: bool | None) -> bool:
    """Whether a launch serves the live page: as asked, by default if somebody looks at its output."""
    return somebody_looks() if ui is None else ui


def _demonstrate(names: list[str], root: str, request: LaunchRequest) -> tuple[list[Ended], str | None]:
    """Run packaged studies one after another in one results root, then write its report; return its path, too."""
    import analysis
    from jobs.results import open_store
    from orchestrator.live.beside import page_of_root
    from orchestrator.study.load import load_study

    launches: list[Ended] = []
    for name in names:
        launches.append(run_launch(load_study(name), root, request))
        if launches[-1].is_over:
            break
    first = launches[0].summary
    if first is None or not first.done or launches[-1].exit_code is ExitCode.TRY_AGAIN:
        return launches, None
    notes.print("\nAccuracy of each source minus that of the natural source, in percentage points (paired t, 95 %):\n")
    notes.print(table_text(analysis.deltas(root), "table"))
    report = str(analysis.report(root))
    notes.print(f"Report: {report}")
    notes.print(f"Live page: {page_of_root(open_store(root).uri, root)}")
    return launches, report


def _more_demos() -> list[str]:
    """Return the studies that `demo --full` runs besides `demo-full`. Attacks on sources need Fashion-MNIST."""
    from jobs.catalog.catalog import PACKAGED
    from jobs.data.locate import find

    more = ["demo-claims", "demo-networks", "demo-texture", "demo-shape", "demo-fourier"]
    if find(PACKAGED.dataset("fmnist")) is not None:
        return [*more, "demo-sources"]
    notes.print("Skipping attacks on the sources: Fashion-MNIST is not on this machine (deltasweep data fetch fmnist).")
    return more


@verbs.command()
def plan(
    study: StudyName,
    results: MaybeRoot = None,
    gpu: PlanGpu = None,
    gpu_memory: GpuMemory = None,
    gpu_tflops: GpuTflops = None,
    gpu_table: GpuTable = None,
    compare: Compare = None,
    price: Price = None,
    spot_price: SpotPrice = None,
    measure: Annotated[
        bool | None,
        typer.Option(
            "--measure/--no-measure",
            help="Time real training steps on this machine, on its processor if it has no GPU, instead of using the "
            "GPU's rates.",
            show_default="without a GPU, unless an option about GPUs or --json is given: if it takes seconds",
        ),
    ] = None,
    accept_numerics: AcceptNumerics = None,
    builder: Builders = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Estimate the work, time, money, memory and disk that a study needs, and show what is already done."""
    from orchestrator.planning.compare import compare as compared
    from orchestrator.planning.gpu_request import GpuRequest
    from orchestrator.planning.older_numerics import accepted_numerics
    from orchestrator.planning.study_plan import plan_study
    from orchestrator.study.load import load_study

    accept = accepted_numerics(accept_numerics or ())
    timed = False if as_json and measure is None else measure
    request = GpuRequest(gpu, gpu_memory, gpu_tflops, gpu_table, price, spot_price, compare, timed)
    others = request.compared(request.chosen())
    loaded = load_study(study, builder)
    planned = plan_study(loaded, None if results is None else known_root(results), request, accept)
    beside = compared(planned.plan, others)
    if as_json:
        more = {"compare": [one.plain() for one in beside]} if compare else {}
        print_json({**planned.plan.plain(), "about_processor": planned.about_processor, **more})
    else:
        out.print(planned.text)
        if compare:
            print_table(comparison_table(beside))


@verbs.command()
def launch(
    study: StudyName,
    results: Root,
    address: Address = None,
    submit: Submit = False,
    max_trials: Annotated[int | None, typer.Option(min=1, help="Run at most this many of the pending trials.")] = None,
    max_cost: MaxCost = None,
    max_hours: MaxHours = None,
    hang_after: HangAfter = HANG_AFTER_MINUTES,
    gpu: ClusterGpu = None,
    price: Price = None,
    accept_numerics: AcceptNumerics = None,
    builder: Builders = None,
    notify: Notify = None,
    ui: LivePage = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run the pending trials of a study on Ray."""
    with notifying(notify, study, results) as notice:
        request = LaunchRequest(
            address,
            max_trials,
            False,
            max_cost,
            max_hours,
            hang_after,
            gpu,
            price,
            accept_numerics,
            builder,
            _serves(ui),
        )
        loaded = _requested(study, request)
        notice.study = loaded.name
        if submit:
            _submit_launch(study, loaded, results, request, notify, ui, as_json)
        ended = run_launch(loaded, results, request)
        notice.ended = ended
    ended.tell_next()
    if as_json:
        print_json(ended.plain())
    raise typer.Exit(ended.exit_code)


def _requested(study: str, request: LaunchRequest) -> "Study":
    """Load the study of a launch, and check its options before anything is submitted or written."""
    from orchestrator.study.load import load_study

    request.options()
    return load_study(study, request.builders)


def _submit_launch(
    study: str,
    loaded: "Study",
    results: str,
    request: LaunchRequest,
    notify: str | None,
    ui: bool | None,
    as_json: bool,
) -> NoReturn:
    from orchestrator.study.load import is_path

    file = _uploaded(study, loaded) if is_path(study) else None
    arguments = [*as_words(request), *as_arguments(notify=notify)]
    submit_verb(
        "launch",
        arguments if file else [study, *arguments],
        address=request.address,
        results=results,
        study=loaded.name,
        study_file=file,
        builders=request.builders or (),
        ui=ui,
        as_json=as_json,
    )


def _uploaded(path: str, study: "Study") -> bytes:
    """Return the study file to upload; with own architectures, sources or datasets it has their cards and absolute
    paths, since relative ones start elsewhere there.
    """
    from jobs.system.files import read_file

    own = study.architectures or study.sources or study.datasets
    return study.resolved().encode() if own else read_file(path)


@verbs.command()
def resume(
    results: Root,
    study: StudyOfRoot = None,
    retry_quarantined: Annotated[bool, typer.Option(help="Also retry quarantined trials.")] = False,
    address: Address = None,
    submit: Submit = False,
    max_cost: MaxCost = None,
    max_hours: MaxHours = None,
    hang_after: HangAfter = HANG_AFTER_MINUTES,
    gpu: ClusterGpu = None,
    price: Price = None,
    accept_numerics: AcceptNumerics = None,
    builder: Builders = None,
    notify: Notify = None,
    ui: LivePage = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Resume a study recorded in a results root: run its pending trials."""
    from jobs.results import open_existing
    from orchestrator.study.history import recorded_study
    from orchestrator.study.load import with_builders

    with notifying(notify, study or "", results) as notice:
        request = LaunchRequest(
            address,
            None,
            retry_quarantined,
            max_cost,
            max_hours,
            hang_after,
            gpu,
            price,
            accept_numerics,
            builder,
            _serves(ui),
        )
        request.options()  # checked before anything is submitted or written
        if submit:  # only the cluster's machines read the root
            arguments = [*as_arguments(study=study), *as_words(request), *as_arguments(notify=notify)]
            submit_verb(
                "resume",
                arguments,
                address=address,
                results=results,
                study=study,
                builders=builder or (),
                ui=ui,
                as_json=as_json,
            )
        recorded = with_builders(recorded_study(open_existing(results), study), builder)
        notice.study = recorded.name
        ended = run_launch(recorded, results, request)
        notice.ended = ended
    ended.tell_next()
    if as_json:
        print_json(ended.plain())
    raise typer.Exit(ended.exit_code)


def run_launch(study: "Study", results: str, request: LaunchRequest) -> Ended:
    """Launch a study from this process, then print the outcome and the command to resume."""
    from jobs.results import open_store
    from orchestrator.launching.launch import launch
    from orchestrator.live.beside import page_of_launch

    options, store = request.options(), open_store(results)
    to_resume = resume_command(request, results, study.name)
    try:
        with page_of_launch(store.uri, request, err.print, quiet=notes.quiet) as live_page:
            summary = launch(study, store, notes, options._replace(live_page=live_page))
        ended = Ended(study.name, results, to_resume, summary)
    except KeyboardInterrupt:  # a signal while Ray starts, or a second signal
        ended = Ended(study.name, results, to_resume, None)
    ended.tell()
    return ended
