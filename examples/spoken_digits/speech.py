"""Spoken digits: eSpeak NG says them, in many voices, with noise; frames of 20 ms become 16 band energies.

Needs the program ``espeak-ng`` (package espeak-ng of Debian, Ubuntu and Homebrew).
"""

from __future__ import annotations

import io
import subprocess
import wave
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NONE = "-"  # nobody has just finished a word
RATE = 22050  # of eSpeak NG, in Hz
HOP = 441  # 20 ms
WINDOW = 512
BANDS = 16
ACCENTS = ("en-us", "en-gb", "en-gb-scotland", "en-029", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-us-nyc")
SPEAKERS = ("m1", "m2", "m3", "m4", "m5", "m7", "f1", "f2", "f3", "f5")
UNHEARD = ("m6", "f4")  # speakers that only the test has


def say(word: str, voice: str, speed: int, pitch: int) -> Array:
    """Samples in -1 … 1, without the silence around the word."""
    command = ["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "--stdout", word]
    spoken = subprocess.run(command, check=True, capture_output=True).stdout
    with wave.open(io.BytesIO(spoken)) as file:
        if file.getframerate() != RATE:
            raise RuntimeError(f"espeak-ng gave {file.getframerate()} samples a second, expected {RATE}")
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768
    loud = np.flatnonzero(np.abs(samples) > 0.01)
    return samples[loud[0] : loud[-1] + 1]


def bands(samples: Array) -> Array:
    """(T, BANDS) logarithms of energies in bands of equal width on the mel scale, 100 to 7000 Hz."""
    count = 1 + (len(samples) - WINDOW) // HOP
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP][:count]
    power = np.abs(np.fft.rfft(frames * np.hanning(WINDOW), axis=1)) ** 2
    mel = np.linspace(*(2595 * np.log10(1 + np.array([100.0, 7000.0]) / 700)), BANDS + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    frequency = np.fft.rfftfreq(WINDOW, 1 / RATE)
    rising = (frequency - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequency) / (edges[2:] - edges[1:-1])[:, None]
    weights = np.maximum(0, np.minimum(rising, falling))
    return np.log10(power @ weights.T + 1e-6).astype(np.float32)


@dataclass
class Recording:
    """features: (T, BANDS); ends: (words,) frame in which each word ends; words: (words,) what it was."""

    features: Array
    ends: NDArray[np.int64]
    words: NDArray[np.str_]


def record(words: int, speakers: tuple[str, ...], seed: int) -> Recording:
    """A stream of so many words with pauses, under noise that comes and goes (5 to 25 dB below the voice)."""
    rng = np.random.default_rng(seed)
    pieces: list[Array] = []
    ends: list[int] = []
    said = rng.choice(WORDS, words)
    at = 0
    for word in said:
        voice = f"{rng.choice(ACCENTS)}+{rng.choice(speakers)}"
        spoken = say(word, voice, int(rng.integers(130, 200)), int(rng.integers(25, 75)))
        pause = np.zeros(int(rng.uniform(0.25, 0.7) * RATE), np.float32)
        piece = np.concatenate([spoken * rng.uniform(0.3, 1.0), pause]).astype(np.float32)
        noise = rng.normal(size=len(piece)).astype(np.float32)
        if rng.random() < 0.5:  # more of the low frequencies
            noise = np.convolve(noise, np.exp(-np.arange(20) / 5).astype(np.float32), "same")
        level = np.sqrt(np.mean(spoken**2)) * 10 ** (-rng.uniform(5, 25) / 20) / np.sqrt(np.mean(noise**2))
        ends.append((at + len(spoken)) // HOP)
        at += len(piece)
        pieces.append(piece + noise * level)
    return Recording(bands(np.concatenate(pieces)), np.array(ends), said)


def excerpts(recording: Recording, count: int, seed: int) -> tuple[list[Array], NDArray[np.str_]]:
    """Sequences of 1.2 to 2 s, and the word that has ended 60 to 200 ms before the end of each, or `NONE`."""
    rng = np.random.default_rng(seed)
    steps = len(recording.features)
    labels = np.full(steps, NONE, dtype="<U5")
    for end, word in zip(recording.ends, recording.words, strict=True):
        labels[end + 3 : end + 11] = word
    blurred = np.zeros(steps, bool)  # just before and after: neither answer would be wrong
    for end in recording.ends:
        blurred[end - 2 : end + 3] = True
        blurred[end + 11 : end + 14] = True
    usable = np.arange(steps) >= 100
    words = np.flatnonzero(usable & (labels != NONE))
    others = np.flatnonzero(usable & (labels == NONE) & ~blurred)
    last = np.concatenate([rng.choice(words, count * 2 // 3), rng.choice(others, count - count * 2 // 3)])
    first = last - rng.integers(60, 100, count)
    return [recording.features[a : b + 1] for a, b in zip(first, last, strict=True)], labels[last]


def heard(probabilities: NDArray[np.float64], classes: NDArray[np.str_]) -> list[tuple[int, str]]:
    """(frame, word) of what a stream of outputs (T, K) says: a word that leads with 0.7 for three frames in a row."""
    found: list[tuple[int, str]] = []
    best = np.where(probabilities.max(axis=1) > 0.7, classes[probabilities.argmax(axis=1)], NONE)
    for t in range(2, len(best)):
        said = best[t] != NONE and (best[t - 2 : t + 1] == best[t]).all()
        if said and (not found or t - found[-1][0] > 15):
            found.append((t, str(best[t])))
    return found


def score(found: list[tuple[int, str]], recording: Recording) -> dict[str, float]:
    """Share of the words that were heard within half a second, and false alarms an hour of speech."""
    hits, used = 0, set()
    for end, word in zip(recording.ends, recording.words, strict=True):
        for i, (t, said) in enumerate(found):
            if i not in used and said == word and end - 3 <= t <= end + 22:
                used.add(i)
                hits += 1
                break
    hours = len(recording.features) * HOP / RATE / 3600
    return {"words heard": hits / len(recording.words), "false alarms an hour": (len(found) - len(used)) / hours}
