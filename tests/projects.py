"""A project whose five stages take a second each."""

import shutil

from anbn.core import artifacts, params

HEADER = """# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% tags=["parameters"]
study: str = "mine"  # name
value: int = 1  # a number (0 to 99)
file: str = ""  # data
device: str = "cpu"  # where

# %%
import numpy as np
from anbn.core import artifacts
{imports}
{reads}
out = artifacts.begin_stage(study, "{stage}")
# %%
artifacts.write_array(out / "data" / "a.npy", np.arange(value * 1000))
# %%
assert value != 13, "unlucky"
summary = {{"value": value}}
artifacts.finish_stage(out, summary, params=summary, simulated=False)
"""
FIRST, SECOND = "01_activation_recording", "02_fbn_extraction"
THIRD, FOURTH = "03_an_bn_coupling", "04_key_neuron_masking"
FIFTH = "04b_keep_amplify_tasks"
READS = {  # and whether it needs them
    FIRST: {},
    SECOND: {FIRST: True},
    THIRD: {FIRST: True, SECOND: True},
    FOURTH: {FIRST: True, SECOND: True, THIRD: False},
    FIFTH: {FIRST: True, THIRD: False},
}


def write_project(folder):
    """Notebooks and parameters of a study `mine`, and a copy of the library."""
    shutil.copytree(params.project_root() / "lib", folder / "lib")
    (folder / "notebooks").mkdir()
    (folder / "params" / "mine").mkdir(parents=True)
    for stage, reads in READS.items():
        calls = []
        for name, needed in reads.items():
            call = f'artifacts.stage_inputs(study, "{name}")'
            calls.append(call if needed else f"if 1: {call}")
        imports = "from anbn.masking import intervene" if stage == FOURTH else ""
        text = HEADER.format(stage=stage, reads="\n".join(calls), imports=imports)
        (folder / "notebooks" / f"{stage}.py").write_text(text)
        (folder / "params" / "mine" / f"{stage}.yaml").write_text("value: 2\n")


def contents(project):
    data = sorted((project / "outputs" / "mine").glob("*/data/*"))
    return {str(p.relative_to(project)): artifacts.sha256(p) for p in data}
