"""Floating-point operations of trials: alone, in bundles, and with cached activations. No torch."""

from collections.abc import Iterable, Sequence

from jobs.catalog.catalog import Catalog
from jobs.catalog.costs import Flops, flops_evaluated_image, flops_trained_image
from jobs.kind import Workload, kind_of, workload
from jobs.specs.trial import TrialSpec
from orchestrator.planning.gpu_table import Format
from orchestrator.planning.gpus import format_of


def trial_flops(spec: TrialSpec, catalog: Catalog) -> Flops:
    """Return the floating-point operations of a trial without caches, by purpose.

    An attack step is a forward pass plus a backward pass to the image only, which costs about the same.
    """
    return flops_alone(workload(spec, catalog))


def flops_alone(work: Workload) -> Flops:
    """Return the floating-point operations of a trial's workload (see ``trial_flops``)."""
    forward = flops_evaluated_image(work.architecture)
    image = flops_trained_image(work.architecture, work.gradient_blocks)
    trained = work.images_trained
    return Flops(
        trunk=trained * image.trunk,
        head_forward=trained * image.head_forward,
        head_backward=trained * image.head_backward,
        evaluation=work.images_evaluated * forward,
        attack=work.attack_steps * 2 * forward,
    )


def study_flops(bundles: Iterable[Sequence[TrialSpec]], catalog: Catalog) -> Flops:
    """Return the operations of all bundles on one machine, one after another (see ``flops_by_format``)."""
    total = Flops()
    for flops in flops_by_format(bundles, catalog).values():
        total = total.plus(flops)
    return total


def flops_by_format(bundles: Iterable[Sequence[TrialSpec]], catalog: Catalog) -> dict[Format, Flops]:
    """Return the operations of all bundles on one machine, one after another, by the format that they are computed in.

    The trials of a bundle share their recipe. Cached activations of test images count for the first bundle that needs
    them. Each further machine would compute them once more.
    """
    totals: dict[Format, Flops] = {}
    there: set[object] = set()
    for bundle in bundles:
        recipe = bundle[0].recipe
        form = format_of(recipe.precision, recipe.tf32)
        totals[form] = totals.get(form, Flops()).plus(bundle_flops(bundle, catalog, there))
    return totals


def bundle_flops(bundle: Sequence[TrialSpec], catalog: Catalog, there: set[object] | None = None) -> Flops:
    """Return the operations of trials that share an actor (docs/decisions/bundles.md).

    Args:
        there: Cache files that earlier trials have written. Those of this bundle are added.
    """
    sharing = kind_of(bundle[0]).sharing
    if sharing is None:
        return trial_flops(bundle[0], catalog)
    return sharing.flops(bundle, catalog, set() if there is None else there)


def kept_bytes(specs: Iterable[TrialSpec], catalog: Catalog) -> int:
    """Return the bytes of the cache files that trials share on a machine."""
    by_kind: dict[str, list[TrialSpec]] = {}
    for spec in specs:
        by_kind.setdefault(spec.kind, []).append(spec)
    sharing = [(kind_of(alike[0]).sharing, alike) for alike in by_kind.values()]
    return sum(of_kind.kept_bytes(alike, catalog) for of_kind, alike in sharing if of_kind is not None)
