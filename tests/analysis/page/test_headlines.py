"""What the report says beside its headline deltas."""

import analysis
from tests.analysis.support import Build


def test_trials_that_ended_too_early_are_told(build: Build) -> None:
    def of(rise: float) -> str:
        trials = [
            build.trial(source, seed, {1: 40.0, 6: 60.0, 8: 60.0 + rise}, constraint=constraint)
            for source, constraint in (("natural", "none"), ("l2", "l2"))
            for seed in range(2)
        ]
        return analysis.report(build.root(trials, f"root{rise:g}")).read_text()

    assert "by more than 1 point between the last two evaluations in 2 of 2 groups of trials, by up to 5.0" in of(5.0)
    assert "still rose" not in of(0.5)
