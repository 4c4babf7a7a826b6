"""The counter-based generator, against published vectors and against statistics."""

import numpy as np
import pytest

from gptj.spec.random import gumbel_noise, split_seed, threefry2x32

pytestmark = pytest.mark.neutral

EULER = 0.5772156649015329
VOCAB = np.arange(50_400)

# Known answers of Threefry-2x32 with 20 rounds from the Random123 distribution (kat_vectors)
VECTORS = [
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
]


def words(pair):
    return tuple(np.array([word], np.uint32) for word in pair)


@pytest.mark.parametrize(("key", "counter", "expected"), VECTORS)
def test_threefry_gives_the_published_answers(key, counter, expected):
    found = threefry2x32(words(key), words(counter))
    assert tuple(int(word[0]) for word in found) == expected


def test_threefry_takes_many_counters_at_once():
    counters = np.array([[0, 1], [2, 0x243F6A88]], np.uint32)
    first, second = threefry2x32(words((5, 6)), (counters, np.uint32([7])))
    single = [threefry2x32(words((5, 6)), words((c, 7))) for c in counters.ravel()]
    np.testing.assert_array_equal(first.ravel(), [one[0][0] for one in single])
    np.testing.assert_array_equal(second.ravel(), [one[1][0] for one in single])


@pytest.mark.parametrize(
    ("seed", "halves"),
    [(0, (0, 0)), (1 << 32, (0, 1)), (2**64 + 3, (3, 0)), (-1, (0xFFFFFFFF, 0xFFFFFFFF))],
)
def test_a_seed_counts_modulo_two_to_the_64(seed, halves):
    assert split_seed(seed) == halves


@pytest.mark.parametrize(("seed", "row", "step"), [(7, 1, 2), (2**40 + 5, 0, 9)])
def test_the_noise_is_keyed_by_seed_sequence_step_and_id(seed, row, step):
    subkey = threefry2x32(words(split_seed(seed)), words((row, step)))
    bits, _ = threefry2x32(subkey, (VOCAB.astype(np.uint32), np.zeros(1, np.uint32)))
    uniform = ((bits >> 9) + 0.5) / 2.0**23  # float64
    found = gumbel_noise(seed, np.array([row]), step, VOCAB)
    np.testing.assert_allclose(found, -np.log(-np.log(uniform)), rtol=1e-6, atol=1e-5)


def test_the_noise_is_finite_float32():
    noise = gumbel_noise(0, np.arange(20)[:, None], 0, VOCAB)
    assert noise.dtype == np.float32
    assert noise.shape == (20, 50_400)
    assert np.isfinite(noise).all()


def test_the_noise_has_the_mean_and_variance_of_gumbel():
    noise = gumbel_noise(1, np.arange(20)[:, None], 3, VOCAB).astype(np.float64)
    deviation = np.pi / np.sqrt(6 * noise.size)  # of the mean of so many
    assert abs(noise.mean() - EULER) < 4 * deviation
    assert abs(noise.var() - np.pi**2 / 6) < 0.01


@pytest.mark.parametrize("quantile", [0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999])
def test_the_noise_has_the_quantiles_of_gumbel(quantile):
    noise = gumbel_noise(2, np.arange(20)[:, None], 0, VOCAB)
    share = (noise < -np.log(-np.log(quantile))).mean()
    assert abs(share - quantile) < 4 * np.sqrt(quantile * (1 - quantile) / noise.size)


def test_a_sequence_alone_has_the_noise_that_it_has_in_a_batch():
    batch = gumbel_noise(7, np.arange(5)[:, None], 2, VOCAB[None])
    np.testing.assert_array_equal(gumbel_noise(7, np.array([[3]]), 2, VOCAB[None])[0], batch[3])


def test_a_candidate_has_the_noise_that_it_has_in_the_whole_vocabulary():
    whole = gumbel_noise(7, np.array([[0]]), 2, VOCAB[None])
    some = np.array([[50_399, 4, 17]])
    np.testing.assert_array_equal(gumbel_noise(7, np.array([[0]]), 2, some), whole[:, some[0]])


@pytest.mark.parametrize(
    "other", [(8, 0, 2), (7 + 2**32, 0, 2), (7, 1, 2), (7, 0, 3), (7, 2, 0)], ids=str
)
def test_another_seed_sequence_or_step_has_noise_of_its_own(other):
    def draw(seed, row, step):
        return gumbel_noise(seed, np.array([row]), step, VOCAB).astype(np.float64)

    correlation = np.corrcoef(draw(7, 0, 2), draw(*other))[0, 1]
    assert abs(correlation) < 4 / np.sqrt(len(VOCAB))


def test_the_likeliest_after_noise_is_a_draw_from_the_softmax():
    logits = np.array([2.0, 1.0, 0.0, -1.0, 0.5, 0.5])
    probs = np.exp(logits) / np.exp(logits).sum()
    rows, draws = np.arange(20_000)[:, None], 20_000
    drawn = (logits + gumbel_noise(11, rows, 0, np.arange(6)[None])).argmax(axis=-1)
    counts = np.bincount(drawn, minlength=6)
    chi_square = ((counts - draws * probs) ** 2 / (draws * probs)).sum()
    assert chi_square < 20.5  # one in a thousand, for five degrees of freedom
