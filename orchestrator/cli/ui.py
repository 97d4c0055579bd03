"""The verb ``ui``: the live page of a results root."""

from typing import Annotated

import typer

from orchestrator.cli.options import GpuName, Price, Root
from orchestrator.cli.output import out
from orchestrator.planning import gpus
from orchestrator.planning.gpus import DEFAULT_GPU

verbs = typer.Typer()


@verbs.command()
def ui(
    results: Root,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free one.")] = 8737,
    host: Annotated[
        str, typer.Option(help="Address to listen on; by default only this machine can reach it.")
    ] = "127.0.0.1",
    gpu: GpuName = DEFAULT_GPU,
    price: Price = None,
) -> None:
    """Serve a live page of a results root: what runs, failures, deltas and curves as they grow.

    It only reads, so it can run on any machine that reads the root. The
    printed address contains a token, without which nothing is shown.
    """
    offer = gpus.gpu(gpu, price)
    from jobs.results import open_store
    from orchestrator.live.serve import serve

    serve(open_store(results), offer, host, port, out.print)
