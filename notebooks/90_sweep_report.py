# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 90 Sweep report
#
# **What do the results of a sweep depend on, and by how much more than on the seed?**
#
# | reads | writes |
# |---|---|
# | `outputs/sweeps/<sweep>/`: `results.parquet`, `sweep.json` | `data/means.parquet`: every summary number by setting, over seeds · `data/variance.parquet`: what each parameter carries · `figures/` |
#
# Cost: seconds. It is run at the end of `make sweep`, and at any time from JupyterLab.
#
# Why a difference between settings is read against seeds: arXiv 2103.03098. The best of
# many scores flatters itself: Cawley & Talbot, JMLR 11:2079, 2010.

# %% tags=["parameters"]
# fmt: off
study: str = "smoke"  # name of the sweep
outcomes: list[str] = []  # summary numbers to show, as 03:encoding_r_mean; [] for a choice of those that vary
max_outcomes: int = 6  # of that choice (1 to 100)
# fmt: on

# %% tags=["imports"]
import os

from IPython.display import HTML

from anbn.core import artifacts, paths
from anbn.core.params import current
from anbn.study import figures, sweep_table

# %%
settings = current("90_sweep_report", globals())
out = artifacts.begin_stage(sweep_table.study_of(study), "90_sweep_report")

# %%
by_hand = not os.environ.get("ANBN_UNATTENDED")
here = paths.project_root() / "notebooks" if by_hand else out  # links start from it

# %% [markdown]
# ## Load
#
# A row a point. A parameter that changes only with another one is not told apart from it.

# %%
table, about = sweep_table.read(out.parent)
design = sweep_table.design(table, about["varied"])
shown = sweep_table.outcomes(table, outcomes, max_outcomes)
ran = sweep_table.done(table)
n_seeds = sweep_table.n_seeds(table, design)
counts = table["status"].value_counts().to_dict()
print(f"sweep {study} of study {about['study']}, points: {counts}")
for name, others in design.together.items():
    print(f"{figures.axis_label(name)}: {table[name].nunique()} values", end="")
    print(*[f", and with it {figures.axis_label(other)}" for other in others])
print(f"seeds of a setting, at least: {n_seeds}; summary numbers shown: {len(shown)}")

# %%
failed = sweep_table.failed(table)
HTML(sweep_table.linked(failed, here) if len(failed) else "No point failed.")

# %% [markdown]
# The number opens the notebook of that stage up to the cell that failed. The same `make
# sweep` again runs only what is missing.
#
# ## Compute

# %%
means = sweep_table.means(table, design.parameters, shown)
variance = sweep_table.variance(table, design.parameters, shown)

# %% [markdown]
# ## Look

# %%
for name in shown:
    figure = figures.plot_sweep(table, name, design.parameters)
    artifacts.write_figure(out, artifacts.slug(name), figure)
if not shown:
    print("Nothing to draw: no summary number differs between points that ran.")

# %% [markdown]
# Each small dot is a point of the sweep, a large one or a bar is the mean of a setting over
# seeds (of perplexities: the geometric mean). Vertical lines are 95 % intervals (Student's t)
# of that mean, from three seeds on: they say what other seeds would give, not another text
# or other people. Crosses at the foot, and in a heat map, are points that did not run. Grey
# or dashed lines are what a number must be read against: ceilings, thresholds, baselines.
# Where panels show one parameter each, dots spread because of all the others.
#
# **The best point of a sweep is not its result.** It was picked among many because its score
# was high, and part of that is luck: reported as such, it is optimistic. Choose on one study,
# report another, that was not looked at (other seeds at least, better other people and
# texts), and report the whole sweep beside it.

# %%
columns = ["point", *about["varied"], *shown, *sweep_table.notebooks(table)]
order = design.parameters + design.seeds
tidy = ran[columns].sort_values(order) if order else ran[columns]
HTML(sweep_table.linked(tidy, here))

# %% [markdown]
# ## Check
#
# Which share of a number's variance over points goes with each parameter, and which is left
# to the seeds? A black mark is what chance alone would give if no parameter did anything.

# %%
known = variance.dropna(subset=["share"])
if len(known):
    figure = figures.plot_variance(known)
    figure.suptitle("What carries the variance" + figures.simulated(ran))
    artifacts.write_figure(out, "variance", figure)
else:
    print("Cannot be said: too few points, or another value at every one of them.")

# %%
if n_seeds < 2:
    print("WARNING: one seed a setting. Differences between settings may be noise: add")
    print("`seeds: [0, 1, 2]` to the sweep before a difference is believed.")
if not design.full:
    print("WARNING: not all combinations were run: means over one parameter mix others")
if len(ran) < len(table):
    print(f"WARNING: points missing, perhaps not at random: {len(table) - len(ran)}")

# %% [markdown]
# A parameter whose share is not well beyond its mark has not been shown to matter. Shares
# are of the values that were tried: a wider range carries more. `interplay` is what
# parameters carry only together.
#
# ## Write

# %%
artifacts.write_table(out / "data" / "means.parquet", means)
artifacts.write_table(out / "data" / "variance.parquet", variance)

# %%
summary = {"n_points": len(table), "n_done": len(ran), "n_seeds": n_seeds}
for name in shown:
    summary[f"lowest {name}"] = ran[name].min()
    summary[f"highest {name}"] = ran[name].max()
for name, rows in known.groupby("outcome"):
    if "seeds" in set(rows["source"]):
        left = rows.set_index("source").loc["seeds", "share"]
        summary[f"left to seeds of {name}"] = left

# %%
sentences = [
    f"{len(ran)} of {len(table)} points ran, with {n_seeds} or more seeds a setting."
]
of_parameters = known[~known["source"].isin(["seeds", "interplay"])]
beyond = of_parameters[of_parameters["share"] > of_parameters["chance"]]
if len(beyond):
    most = beyond.loc[(beyond["share"] - beyond["chance"]).idxmax()]
    sentences.append(
        f"Most is carried by {figures.axis_label(most['source'])} in {most['outcome']}: "
        f"{most['share']:.0%} of the variance over points, of which chance alone gives "
        f"{most['chance']:.0%}."
    )
elif len(known):
    sentences.append("No parameter carries more of a number than chance alone gives.")
else:
    sentences.append("What the numbers depend on cannot be said from so few points.")
if figures.simulated(ran):
    sentences.append("Points are of simulated data.")
finding = " ".join(sentences)
finding

# %%
artifacts.finish_stage(
    out,
    summary,
    params=settings,
    simulated=figures.simulated(ran) != "",
    finding=finding,
)
