"""Made-up results like those that a sweep leaves."""

import itertools
import json

import numpy as np
import pandas as pd

STAGE = "03b_functional_organisation"
ATOMS, ALPHA = f"{STAGE}.n_atoms", f"{STAGE}.atom_penalty"
KINDS, HRF = "01_activation_recording.kinds", "01_activation_recording.hrf"


def results(varied, *, failed=(), seed=0, simulated=True):
    """Results of every combination: encoding grows with the log of n_atoms."""
    rng, rows = np.random.default_rng(seed), []
    for i, values in enumerate(itertools.product(*varied.values())):
        given = dict(zip(varied, values, strict=True))
        point = {"point": f"p{i:03}", "status": "done", "failed_stage": None}
        point |= {"error": None, **given, "simulated": simulated, "seconds": 60.0}
        effect = 0.05 * np.log2(given.get(ATOMS, 32)) + 0.1 * (given.get(HRF) == "fir")
        noise = 0.01 * rng.standard_normal(3)
        point |= {
            "01:perplexity": 35.0,
            "01:tokens_per_s": 100 + 10 * rng.standard_normal(),
            "02:n_networks_brain": 10 + int(rng.integers(3)),
            "03b:encoding_r_mean": effect + noise[0],
            "03b:encoding_r_baseline_wordrate": 0.2 + noise[1] / 5,
            "03b:encoding_r_random_model": 0.15 + 0.05 * (given.get(HRF) == "fir"),
            "03b:noise_ceiling_mean": 0.6,
            "03:max_synchrony": 0.5 + noise[2],
            "03:fwe_threshold": 0.45,
            "04:ppl_base": 34.0,
            "04:ppl_masked_networks": 34.0 * np.exp(5 * effect + 20 * noise[1]),
            "04:ppl_masked_matched_random": 90.0 * np.exp(10 * noise[2]),
            "04:verdict": "text",
        }
        for stage in ("01_activation_recording", STAGE):
            path = f"outputs/sweeps/made/points/p{i:03}/{stage}/notebook.ipynb"
            point[f"notebook_{stage.partition('_')[0]}"] = path
        if i in failed:
            point |= {c: None for c in point if ":" in c} | {"status": "failed"}
            point |= {"failed_stage": STAGE, "simulated": None}
            point["error"] = "cell 5: ValueError: <script>alert(1)</script> & more"
        rows.append(point)
    return pd.DataFrame(rows)


def write(folder, table, varied):
    folder.mkdir(parents=True)
    table.to_parquet(folder / "results.parquet")
    about = {"sweep": folder.name, "study": "ci", "stages": [], "spec": {}}
    about |= {"varied": list(varied), "n_points": len(table)}
    (folder / "sweep.json").write_text(json.dumps(about))
