"""Sound files of every depth, through the haemodynamic response."""

import tracemalloc
import wave

import numpy as np
import pytest
from scipy.io import wavfile

from anbn.brain import regressors
from anbn.brain.hrf import response_function
from anbn.brain.regressors import RegressorError

CLOCK = {"n_times": 20, "tr": 1.5, "start": 2.0}


def amplitude(rng, rate, seconds, n_channels=1):
    """Noise that swells and fades, within -1 and 1."""
    t = np.arange(int(rate * seconds)) / rate
    swell = 0.4 + 0.3 * np.sin(2 * np.pi * t / 7)
    return swell[:, None] * rng.uniform(-1, 1, (len(t), n_channels))


def save(path, rate, samples, n_bytes):
    """Signed PCM of a number of bytes, of which 8 bits are unsigned."""
    values = np.round(samples * (2 ** (8 * n_bytes - 1) - 1)).astype(np.int64)
    values += 128 * (n_bytes == 1)
    raw = values.astype("<i8").tobytes()
    raw = np.frombuffer(raw, np.uint8).reshape(-1, 8)[:, :n_bytes].tobytes()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(n_bytes)
        file.setframerate(rate)
        file.writeframes(raw)
    return str(path)


def naive(samples, rate, hrf, sound_onset):
    """One bin and one volume at a time."""
    x, step = np.zeros(CLOCK["n_times"]), rate * 0.01
    n_bins = int(np.ceil(len(samples) / step))
    for k in range(n_bins):
        begin = round(k * step)
        end = min(round((k + 1) * step), len(samples))
        rms = np.sqrt(np.mean(samples[begin:end] ** 2))
        at, long = sound_onset + (begin + end) / 2 / rate, (end - begin) / rate
        for t in range(len(x)):
            time = CLOCK["start"] + t * CLOCK["tr"]
            if hrf == "none":
                x[t] += long * rms * (time <= at < time + CLOCK["tr"])
            else:
                x[t] += long * rms * response_function(time - at, hrf)
    return x


@pytest.mark.parametrize("n_bytes", [1, 2, 3, 4])
def test_every_depth(tmp_path, rng, n_bytes, monkeypatch):
    monkeypatch.setattr(regressors, "BLOCK", 7)
    samples = amplitude(rng, 2050, 4.3437, 2)  # 20.5 samples a bin, the last one short
    path = save(tmp_path / "a.wav", 2050, samples, n_bytes)
    found = regressors.power(path, **CLOCK, sound_onset=1.25)
    expected = naive(samples, 2050, "spm", 1.25)
    tolerance = {1: 2e-2, 2: 1e-4}.get(n_bytes, 1e-6)
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=1e-4 * tolerance)


@pytest.mark.parametrize("hrf", ["spm", "glover", "none"])
def test_floats_and_responses(tmp_path, rng, hrf):
    samples = amplitude(rng, 200, 10)[:, 0]
    path = str(tmp_path / "a.wav")
    for dtype in (np.float32, np.float64):
        wavfile.write(path, 200, 40 * samples.astype(dtype))
        found = regressors.power(path, **CLOCK, hrf=hrf, sound_onset=4.0)
        expected = 40 * naive(samples, 200, hrf, 4.0)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_steady_sound_is_its_own_power(tmp_path):
    path = str(tmp_path / "a.wav")
    tone = np.sin(2 * np.pi * 200 * np.arange(80_000) / 1000)
    wavfile.write(path, 1000, tone.astype(np.float32))
    found = regressors.power(path, n_times=20, tr=1.5, start=45.0)
    np.testing.assert_allclose(found, np.sqrt(0.5), rtol=1e-3)


def test_what_cannot_be_heard(tmp_path, rng):
    samples = amplitude(rng, 1000, 3)
    good = save(tmp_path / "good.wav", 1000, samples, 2)
    content = (tmp_path / "good.wav").read_bytes()
    wavfile.write(tmp_path / "nan.wav", 1000, np.full(3000, np.nan, np.float32))
    save(tmp_path / "silent.wav", 1000, 0 * samples, 2)
    save(tmp_path / "empty.wav", 1000, samples[:0], 2)
    save(tmp_path / "slow.wav", 50, samples, 2)
    (tmp_path / "a.mp3").write_bytes(b"ID3\x04" + bytes(range(200)))
    (tmp_path / "cut.wav").write_bytes(content[:30])
    (tmp_path / "none.wav").write_bytes(b"")
    (tmp_path / "law.wav").write_bytes(content[:20] + b"\x07" + content[21:])
    for name, options, message in [
        ("a.mp3", {}, r"a\.mp3 cannot be read as WAV.* ffmpeg -i a\.mp3 -c:a pcm_s16"),
        ("cut.wav", {}, r"cut\.wav cannot be read as WAV"),
        ("none.wav", {}, r"none\.wav cannot be read as WAV"),
        ("law.wav", {}, "cannot be read as WAV.*MULAW.*ffmpeg"),
        ("nan.wav", {}, "samples are NaN or infinite"),
        ("silent.wav", {}, "is silent"),
        ("empty.wav", {}, "0 samples at 1000 a second are too few"),
        ("slow.wav", {}, "3000 samples at 50 a second are too few for bins of 0.01 s"),
        (good, {"sound_onset": 900.0}, r"good\.wav \(of 900.*onset of a sound"),
    ]:
        with pytest.raises(RegressorError, match=message):
            regressors.power(str(tmp_path / name), **CLOCK, **options)
    with pytest.raises(FileNotFoundError, match=r"nothing found at .*other\.wav"):
        regressors.power(str(tmp_path / "other.wav"), **CLOCK)


def test_memory_does_not_grow_with_the_sound(tmp_path):
    path = str(tmp_path / "a.wav")
    wavfile.write(path, 44_100, np.ones((44_100 * 100, 2), np.int16))  # 17.6 MB
    regressors.power(path, **CLOCK)
    tracemalloc.start()
    regressors.power(path, **CLOCK)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6  # as floats it would be 70.6 MB, and as much again when squared
