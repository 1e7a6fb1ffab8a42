"""Read, fit, forecast, compare and plot, as in a notebook; docs/examples.md shows what it prints."""

from pathlib import Path

import entlaw

RUNS = Path(__file__).parents[1] / "runs"

# Read: a file, a folder, a glob, a W&B run.
run = entlaw.read(RUNS / "kl-cov-m-rl0")[0]
print(run)

# Fit: the law from the steps up to 36, with what speaks for and against it.
result = entlaw.fit(run)
print(result.summary())

# Forecast: from all that was logged, or as it would have been seen from an earlier step.
for there in entlaw.forecast(run, step=[300, 480]):
    print(there, f"P(score > 0.5) = {there.probability_above(0.5):.2f}")
early = entlaw.forecast(run, step=240, until_step=120)
print(f"from step {early.until_step:g}: {early.median:.3f}; measured later: {result.last[1]:.3f}")

# Many runs, one row each, refused ones too.
columns = ["verdict", "state", "last_score", "ceiling", "forecast_step", "forecast", "forecast_verdict"]
print(entlaw.fit_all(RUNS / "kl-cov-m-rl*")[columns].round(3).to_string())

# Compare: better, or noise?
print(entlaw.compare(RUNS / "grpo-m-rl*", RUNS / "kl-cov-m-rl*").to_frame().round(3).to_string())

# Plot: matplotlib axes.
result.plot().figure.savefig("example.png", dpi=110)
