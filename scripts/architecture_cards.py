"""Write the cards of the packaged architectures, ``jobs/catalog/architectures/*.yaml``.

    python -m scripts.architecture_cards [NAME ...]

Without names it writes all of them; those of timm need the extra `timm`. Takes minutes.
"""

import argparse
from pathlib import Path

from jobs.catalog.architecture_files import card_text
from jobs.networks.describe import describe

FOLDER = Path(__file__).parent.parent / "jobs" / "catalog" / "architectures"

_TORCHVISION = (
    *("convnext_tiny", "densenet161", "mnasnet1_0", "mobilenet_v2", "resnet18", "resnet34", "resnet50", "resnet101"),
    *("resnext50_32x4d", "shufflenet_v2_x1_0", "swin_t", "vgg16_bn", "vit_b_16", "wide_resnet50_2"),
)
_TIMM = (
    *("convnext_small", "convnext_tiny", "deit_small_patch16_224", "efficientnet_b0", "resnetv2_50"),
    "vit_small_patch16_224",
)

PACKAGED: dict[str, tuple[str, int]] = {
    **{name: (f"torchvision:{name}", 224) for name in _TORCHVISION},
    "wide_resnet50_4": ("deltasweep:wide_resnet50_4", 224),
    **{name: (f"deltasweep:{name}", 32) for name in ("resnet18-w16", "resnet35-w8", "vit6-d64")},
    **{f"timm.{name}": (f"timm:{name}", 224) for name in _TIMM},
}
"""Builder and image size of every packaged architecture."""

HEAD = "# Written by `python -m scripts.architecture_cards`\n"

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="*", choices=[*PACKAGED, []])
    for name in parser.parse_args().name or PACKAGED:
        (FOLDER / f"{name}.yaml").write_text(HEAD + card_text(describe(name, *PACKAGED[name])))
        print(name)
