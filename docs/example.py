"""Read, fit, forecast, compare and plot, as in a notebook: run it where `runs/` is."""

import entlaw

# Read: a file, a folder, a glob or a W&B run.
run = entlaw.read("runs/grpo-m-rl0")[0]
print(run, "\n")

# Fit: the law from the steps up to 36, the forecast from all that was logged, and what speaks against either.
result = entlaw.fit(run)
print(result.summary(), "\n")

# Forecast: at steps, at an entropy, or as it would have been seen from an earlier step.
for there in entlaw.forecast(run, step=[300, 480]):
    print(there, f"P(score > 0.5) = {there.probability_above(0.5):.2f}")
early = entlaw.forecast(run, step=240, until_step=120)
print(f"from step {early.until_step:g}: {early.median:.3f}; measured later: {result.last[1]:.3f} \n")

# Many runs: one row each, also for those that are refused or cannot be read.
table = entlaw.fit_all("runs/grpo-m-rl*")
print(table[["verdict", "last_score", "ceiling", "forecast_step", "forecast", "p_gain"]].round(2), "\n")

# Compare two groups of seeds: better, or noise?
difference = entlaw.compare("runs/grpo-m-rl*", "runs/kl-cov-m-rl*").to_frame()
print(difference[["a", "b", "difference", "lo", "hi", "b_is", "n"]].round(3))

# Plot: matplotlib axes, to go on with.
axes = result.plot()
axes.set_title(result.name)
axes.figure.savefig("example.png", dpi=110)
