"""The verb ``ui``: the live page of a results root."""

import sys
from typing import Annotated

import typer

from orchestrator.cli.options import GpuName, Json, Price, Quiet, Root
from orchestrator.cli.output import err, notes, out, print_json
from orchestrator.planning import gpus
from orchestrator.planning.gpus import DEFAULT_GPU

verbs = typer.Typer()


@verbs.command()
def ui(
    results: Root,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Port to listen on; 0: any free one.",
            show_default="8737, or a free one if it is taken",
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; by default only this machine can reach it.")
    ] = "127.0.0.1",
    gpu: GpuName = DEFAULT_GPU,
    price: Price = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Serve a live page of a results root: what runs, failures, deltas and curves as they grow.

    It only reads, so it can run on any machine that reads the root. The
    printed address contains a token, without which nothing is shown.
    """
    offer = gpus.gpu(gpu, price)
    from jobs.results import open_store
    from orchestrator.live.serve import place, serve

    store = open_store(results)

    def ready(address: str) -> None:
        if as_json:
            print_json({"address": address, "results": store.uri})
        else:
            out.print(f"Live page of {store.uri}: {address}")
        sys.stdout.flush()
        notes.print("Ctrl-C ends it.")

    serve(store, offer, place(host, port), ready, err.print)
