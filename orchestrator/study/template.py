"""The text of a new study file: valid as it is, with every choice explained."""

from string import Template

from jobs.system import safe_yaml

EDITORS = "# yaml-language-server: $schema=study.schema.json"
"""The line by which editors with the YAML language server find a schema beside the file."""

_TEXT = Template("""\
# A study of DeltaSweep. What next:
#   deltasweep plan $file                      what it costs
#   deltasweep launch $file --results results  run it
# All keys: docs/reference/study-keys.md. For an editor that checks them while you type, write the schema beside this
# file with `deltasweep schema > study.schema.json`, and remove the first # of the next line:
# $editors

$name
description: >
  What does this study ask? One sentence for the reader of its report.

# Every combination of these is fine-tuned.
grid:
  source: [fmnist_natural, fmnist_l2_eps1]  # where training starts: deltasweep models list
  dataset: [digits]                         # the target: deltasweep data list
  blocks: [3]                               # how many of the last blocks are trained; 0: the last layer; -1: all

# How long, how often, and from which seeds. Rows with larger subsets usually have fewer epochs and seeds.
schedule:
  # A batch has 128 images, so an epoch of up to 128 is one step: 100 epochs are 100 and 200 steps.
  - {images: [50, 200], epochs: 100, seeds: 5, evaluate_every: 20}  # images: -1 is the whole training set

# Every choice that changes numbers: the name of a recipe, or the choices that differ from one.
# recipe: as-published
# recipe: {base: paper, learning_rate: 0.05}

# Comparisons that are declared beforehand; Holm's correction covers them together.
contrasts:
  - {source: fmnist_l2_eps1, baseline: fmnist_natural, blocks: [3]}

# Attack the fine-tuned networks, too.
# attack:
#   finetuned: {images: [200], seeds: 2}
#   balls: [{constraint: l2, epsilon: [0.5, 1], steps: 20}]

# Own images, sources and networks: docs/how-to/datasets.md, own-weights.md, own-networks.md.
# datasets:                    # paste what `deltasweep data describe ~/my_images` prints, as it is
#   my_images: {folder: ~/my_images, ...}

# What runs where changes no number.
resources: {gpu: 0.25, cpu: 1}  # the share of a machine that each trial takes; without a GPU, its CPUs
# bundle: blocks                # trials that differ only in blocks share one actor: faster, same numbers
# keep_weights: true            # keep the trained networks in the results root
""")


def new_study(name: str, file: str) -> str:
    """Return the text of a study file with this name, to be written to ``file``."""
    # in quotes if YAML would read it as a number, a date or a Boolean
    named = safe_yaml.dump({"name": name}, flow=False).rstrip()
    return _TEXT.substitute(name=named, file=file, editors=EDITORS.removeprefix("# "))
