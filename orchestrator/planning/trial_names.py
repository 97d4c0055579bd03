"""The names of trials where people read or write them. Imports nothing."""


def short_name(trial: str) -> str:
    """Return a trial id without the hash at its end and, for fine-tuning, without its kind, as progress shows it."""
    return trial.rpartition("-")[0].removeprefix("finetune-") or trial


def is_named(trial: str, named: str) -> bool:
    """Whether a trial is named by its id, or by the hash at its end."""
    return named in (trial, trial.rpartition("-")[2])
