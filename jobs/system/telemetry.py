"""Nothing here reports its use to anybody; libraries that do by default are told not to."""

import os


def disable_telemetry() -> None:
    """Switch off what huggingface_hub tells its hub besides the request; it reads this once, when it is imported.

    timm imports it. Ray's usage statistics are switched off where Ray is started (``orchestrator.ray_tune.tuner``).
    """
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
