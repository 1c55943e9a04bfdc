"""Small files of every format that people bring, and how each is read."""

import json

import nibabel
import numpy as np
import pandas as pd
from nibabel.cifti2 import BrainModelAxis, Cifti2Image, SeriesAxis
from safetensors.numpy import save_file
from scipy.io import wavfile

from anbn.brain import bids, bold, images, narratives, regressors, template_images
from anbn.brain.confounds import read_confounds
from anbn.core import artifacts
from anbn.masking import selection
from anbn.text import stories

N_TIMES = 20
WORDS = [
    *(("well", 0.5, 0.9), ("the", 0.9, 1.1), ("Mock", 1.2, 1.5), ("turtle", 1.5, 2.25)),
    *(("said", 2.5, 2.75), ("it's", 3.0, 3.5), ("12", 3.5, 4.0), ('"Oh', 4.0, 4.2)),
    ("nan", 4.5, 5.0),
]


def _textgrid(short):
    head = 'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = 6\n'
    head += "tiers? <exists>\nsize = 1\nitem []:\n    item [1]:\n        class = "
    head += '"IntervalTier"\n        name = "words"\n        xmin = 0\n        xmax = 6'
    head += f"\n        intervals: size = {len(WORDS)}\n"
    one = "        intervals [1]:\n            xmin = {1}\n            xmax = {2}\n"
    one += '            text = "{0}"\n'
    if short:
        head = (
            '"ooTextFile"\n"TextGrid"\n\n0\n6\n<exists>\n1\n"IntervalTier"\n"words"\n'
        )
        head, one = f"{head}0\n6\n{len(WORDS)}\n", '{1}\n{2}\n"{0}"\n'
    return head + "".join(one.format(w.replace('"', '""'), a, b) for w, a, b in WORDS)


def _rows(line, head=""):
    return head + "".join(line.format(w, a, b, b - a) for w, a, b in WORDS)


def _captions(mark):
    stamp = f"00:00:{{:02d}}{mark}{{:03d}}"
    times = [
        (stamp.format(*divmod(round(1000 * t), 1000)) for t in w[1:]) for w in WORDS
    ]
    cues = [
        " --> ".join(t) + f"\n{w[0]}\n\n" for t, w in zip(times, WORDS, strict=True)
    ]
    return "".join(f"{i}\n{c}" if mark == "," else c for i, c in enumerate(cues, 1))


TRANSCRIPTS = {
    "long.TextGrid": _textgrid(False),
    "short.TextGrid": _textgrid(True),
    "align.csv": _rows("{0},{0},{1},{2}\n").replace('"', "") + "unaligned,,,\n",
    "words.tsv": _rows("{0}\t{1}\t{2}\n", "word\tonset\toffset\n"),
    "words.csv": _rows("{0},{1},{2}\n", "word,onset,offset\n"),
    "events.tsv": _rows("{1}\t{3}\tword\t{0}\n", "onset\tduration\ttrial_type\tword\n"),
    "captions.srt": _captions(","),
    "captions.vtt": "WEBVTT\n\n" + _captions("."),
    "plain.txt": " ".join(w[0] for w in WORDS) + ".",
}


def read_transcript(path, missing="interpolate"):
    story = stories.read_story(path, rng=np.random.default_rng(0), missing=missing)
    return story[:3]


def words_are_sound(words, text):
    """Whether times are finite and in order, and every word stands in the text."""
    timed = words[words["onset"].notna()]
    on, off = timed["onset"].to_numpy(), timed["offset"].to_numpy()
    places = zip(words["start"], words["end"], words["word"].astype(str), strict=True)
    return bool(
        len(timed)
        and np.isfinite([on, off]).all()
        and (on >= 0).all()
        and (off >= on).all()
        and (np.diff(on) >= 0).all()
        and (off[:-1] <= on[1:] + 1e-9).all()
        and all(text[a:b] == word for a, b, word in places)
    )


def make(folder):
    """Write a file of every other format.

    Returns
    -------
    readers : dict of str to function of a path to an array
        By file name.
    """
    rng = np.random.default_rng(0)
    affine = np.diag([3.0, 3, 3, 1])
    affine[:3, 3] = -9
    labels = np.zeros((6, 6, 6), np.int16)
    labels[1:3], labels[3:5] = 1, 2

    def save(name, values):
        image = nibabel.Nifti1Image(values, affine)
        if values.ndim == 4:
            image.header.set_zooms((3, 3, 3, 2.0))
            image.header.set_xyzt_units("mm", "sec")
        nibabel.save(image, folder / name)

    run = rng.normal(100, 10, (6, 6, 6, N_TIMES)).astype(np.float32)
    for name in ("run.nii", "run.nii.gz", "kept.nii"):
        save(name, run)
    save("scaled.nii", run.astype(np.int16))
    for name in ("labels.nii.gz", "labels.nii", "kept_atlas.nii"):
        save(name, labels)
    for name in ("mask.nii", "kept_mask.nii"):
        save(name, (labels > 0).astype(np.uint8))
    brain = BrainModelAxis.from_mask(labels > 0, affine=affine, name="thalamus_left")
    series = SeriesAxis(0, 2, N_TIMES)
    values = rng.normal(size=(N_TIMES, len(brain))).astype(np.float32)
    nibabel.save(Cifti2Image(values, (series, brain)), folder / "x.dtseries.nii")
    table = pd.DataFrame(rng.normal(size=(N_TIMES, 4)), columns=list("abcd"))
    table.to_csv(folder / "regions.tsv", sep="\t", index=False)
    table.to_csv(folder / "regions.csv", index=False)
    np.save(folder / "regions.npy", table.to_numpy())
    motion = table.rename(columns={"a": "trans_x", "b": "trans_y", "c": "fd"})
    motion.astype(str).replace({"fd": {motion["fd"].astype(str)[0]: "n/a"}}).to_csv(
        folder / "confounds.tsv", sep="\t", index=False
    )
    mask = np.eye(6, dtype=bool)
    artifacts.write_arrays(folder / "mask.npz", mask=mask)
    save_file({"mask": mask}, folder / "mask.safetensors")
    (folder / "mask.csv").write_text("layer,neuron\n0,1\n2,3\n")
    noise = (rng.normal(size=40000) * 3000).astype(np.int16)
    wavfile.write(folder / "sound.wav", 1000, noise)
    (folder / "bold.json").write_text(json.dumps({"RepetitionTime": 2.0}))
    (folder / "kept_atlas.tsv").write_text("index\tname\n1\tone\n2\ttwo\n")
    (folder / "participants.tsv").write_text(
        "participant_id\tage\ttask\tcondition\nsub-001\t21\tpieman,tunnel\tn/a,n/a\n"
    )
    (folder / "story_events.tsv").write_text(
        "onset\tduration\ttrial_type\tstim_file\n0\t12\tmusic\tpieman_audio.wav\n"
        "12\t400\tstory\tpieman_audio.wav\n"
    )
    whole = nibabel.Nifti1Image(np.ones((6, 6, 6), np.uint8), affine)

    def prepare(path, **options):
        runs = [bids.Run("sub-1", "run", path, None, None)]
        options |= {"tr": 2.0, "n_times": N_TIMES}
        return np.array(bold.prepare(runs, folder / "out", **options).runs[0])

    inside = {"mask": str(folder / "kept_mask.nii")}
    shape = (6, 6)
    return {
        "run.nii": lambda p: prepare(p, **inside),
        "run.nii.gz": lambda p: prepare(p, **inside),
        "scaled.nii": lambda p: prepare(p, **inside),
        "mask.nii": lambda p: prepare(folder / "kept.nii", mask=str(p)),
        "labels.nii.gz": lambda p: prepare(folder / "kept.nii", atlas=str(p)),
        "labels.nii": lambda p: template_images.load_image_templates(p, whole)[0],
        "x.dtseries.nii": prepare,
        "regions.tsv": prepare,
        "regions.csv": prepare,
        "regions.npy": prepare,
        "confounds.tsv": lambda p: read_confounds(
            p, ["trans_*", "fd"], n_volumes=N_TIMES
        ),
        "mask.npz": lambda p: selection.from_file(p, shape),
        "mask.safetensors": lambda p: selection.from_file(p, shape),
        "mask.csv": lambda p: selection.from_file(p, shape),
        "sound.wav": lambda p: regressors.power(str(p), n_times=N_TIMES, tr=2.0),
        "bold.json": lambda p: np.float64(bids.timing([p])[0] or 0),
        "kept_atlas.tsv": lambda p: np.arange(
            len(images.region_names(folder / "kept_atlas.nii", np.array([1, 2])))
        ),
        "participants.tsv": lambda p: np.arange(len(narratives.listeners(p))),
        "story_events.tsv": lambda p: np.array(narratives._story_rows("pieman", p)),
    }
