"""How good a strategy's gradient is: compared with that of the loss of integer codes.

That loss is a staircase of the encoder's weights, without a gradient. What has one is its Bernoulli relaxation: with
`m = floor(u)` and `t = u - m`, code = m + b, where the bits b are 1 with probability t, each for itself;

    J(u) = mean over examples of E_b loss(x, decode(m + b))

is the loss of integer codes wherever `u` is integer, and multilinear in between. Its gradient is the reference: exact
for codes that are drawn at random, which far from integers err more than rounded ones do. A strategy that trains well
on such `u` (bits near 1/2) may therefore have a small cosine.
"""

from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from rounding._noise import uniform
from telemetry.media import Comparison

if TYPE_CHECKING:
    from models.autoencoder import Autoencoder

EXACT = 10  # the most codes an example may have for its 2^codes vectors of bits to be enumerated
GROUPS = 16  # independent estimates of the reference
FLIPS = 8  # bits of each example that an estimate tries both ways
PILOTS = 4  # gradients that the curvature is estimated from
DRAWS = 8  # gradients of a random strategy
ELEMENTS = 2**17  # of reconstructions that are made at once: what bounds memory
OFFSET = 2**30  # of the noise's numbers, away from those of training and evaluation


class GradientQuality:
    """Compares the encoder's gradient, strategy in place, with a reference, on a batch that stays the same.

    gradient_quality/cosine        of the angle between them, mean over a random strategy's draws; 0 without a gradient
    gradient_quality/cosine_error  its standard error, from sampling the reference and the strategy; 0 if neither is
    gradient_quality/bias          |E B - A| / |A| for the strategy's gradient B, the reference A
    gradient_quality/variance      E |B - E B|^2 / |A|^2; 0 for a strategy that isn't random
    gradient_quality/relaxation_gap    J - hard loss: the smaller, the more the reference has to say of the hard loss

    The first four are free of the bias that the reference's noise would bring, but for the square roots; so a cosine
    may come out above 1 by its error. NaN: the noise hides the reference. Networks run as in evaluation, and nothing
    changes. With `precision=mixed_float16` the loss is not scaled here, so that the smallest gradients vanish.

    Up to `EXACT` codes an example, the reference is exact. Beyond, it is the score-function estimator with each bit
    summed out in turn, which leaves the loss's differences D_i(b) = loss(b_i = 1) - loss(b_i = 0) ("local expectation
    gradients", Titsias & Lázaro-Gredilla 2015, arXiv 1503.01494), at `FLIPS` of n codes drawn at random:

        dJ/dt_i ~ c_i + n / FLIPS [i drawn] (D_i - c_i),    c_i = dloss/db_i + (1/2 - b_i) curvature

    is unbiased for any c that does not know which codes are drawn; this one, a Taylor expansion at the sampled b (as
    MuProp's at its mean, Gu et al. 2016, arXiv 1511.05176), is close to D. Per cost it beats DisARM (Dong et al. 2020,
    arXiv 2006.10680) and leave-one-out baselines; at t = 0 and 1, where those divide by 0, it is as good as anywhere.

    Args:
        autoencoder: built.
        loss: of each example.
        x: the examples, `[examples, ...]`, a few: each adds to the cost, and to the reference's noise.
        seed: of the run.
    """

    def __init__(self, autoencoder: "Autoencoder", loss: Comparison, x: tf.Tensor, seed: int) -> None:
        self.autoencoder = autoencoder
        self.loss = loss
        self.x = tf.convert_to_tensor(x)
        self.seed = seed
        self.codes = int(np.prod(autoencoder.encoder.output_shape[1:]))
        variables = [*autoencoder.encoder.trainable_variables, *autoencoder.latent.trainable_variables]
        self.weights = [variable.value for variable in variables]

    def measure(self, number: int) -> dict[str, float]:
        """The values by tag; the same for the same weights and `number`, other noise for another number (0 or more)."""
        first = -OFFSET - number * (1 + GROUPS + DRAWS)
        pilot, *seeds = [tf.constant([self.seed, first - place]) for place in range(1 + GROUPS + DRAWS)]
        u = self._encode()
        if self.codes <= EXACT:
            estimates = [self._exact(u)]
        else:
            curvature = self._curvature(u, pilot)
            estimates = [self._sampled(u, seed, curvature) for seed in seeds[:GROUPS]]
        relaxed, slopes = map(list, zip(*estimates, strict=True))
        hard, _ = self._slope(tf.round(u))
        groups = len(slopes)
        slopes += [self._strategy(u, seed) for seed in (seeds[GROUPS:] if self.autoencoder.random else seeds[-1:])]
        vectors = tf.stack([self._encoder_gradient(slope) for slope in slopes])
        # Not by NumPy, faster as it is: its number of threads is not `threads`, and its last digits depend on it.
        products = tf.matmul(vectors, vectors, transpose_b=True).numpy().astype("float64")
        values = {**compare(products, groups), "relaxation_gap": float(tf.reduce_mean(relaxed) - tf.reduce_mean(hard))}
        return {f"gradient_quality/{name}": value for name, value in values.items()}

    @tf.function(autograph=False)
    def _encode(self) -> tf.Tensor:
        return self.autoencoder.encode(self.x)

    @tf.function(autograph=False)
    def _encoder_gradient(self, slopes: tf.Tensor) -> tf.Tensor:
        """What each example's dloss/du comes to in the weights of encoder and latent, one vector, mean of examples."""
        with tf.GradientTape() as tape:
            u = self.autoencoder.encode(self.x)
        gradients = tape.gradient(u, self.weights, output_gradients=slopes / len(self.x))
        return tf.concat([tf.reshape(gradient, [-1]) for gradient in gradients], axis=0)

    def _strategy(self, u: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """The gradient of the soft loss, of the shape of `u`."""
        with tf.GradientTape() as tape:
            tape.watch(u)
            code = self.autoencoder.soften(u, seed)
        _, slope = self._slope(code)
        return tape.gradient(code, u, output_gradients=slope, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    def _exact(self, u: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """J of each example, `[examples]`, and dJ/du, from all codes."""
        m, t = self._cell(u)
        bits = tf.bitwise.right_shift(tf.range(2**self.codes)[:, None], tf.range(self.codes)[::-1]) % 2
        losses = self._losses(m + tf.reshape(tf.cast(bits, m.dtype), [-1, 1, *m.shape[1:]]))
        with tf.GradientTape() as tape:
            tape.watch(t)
            mean = expectation(losses, tf.reshape(t, [-1, self.codes]))
        return mean, tape.gradient(mean, t)

    @tf.function(autograph=False)
    def _sampled(self, u: tf.Tensor, seed: tf.Tensor, curvature: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Unbiased estimates of each example's J and dJ/du, from one sample of its codes; `curvature [units]`."""
        m, t = self._cell(u)
        noise = uniform(tf.stack([t, t]), seed) + 0.5
        b = tf.cast(noise[0] < t, t.dtype)
        drawn = tf.math.top_k(tf.reshape(noise[1], [-1, self.codes]), FLIPS).indices
        drawn = tf.reshape(tf.one_hot(tf.transpose(drawn), self.codes), [FLIPS, *u.shape])
        loss, slope = self._slope(m + b)
        step = 1 - 2 * b  # to the other bit
        change = self._losses(m + b + drawn * step) - loss
        difference = step * tf.einsum("fe...,fe->e...", drawn, change)
        expected = slope + step / 2 * curvature
        return loss, expected + self.codes / FLIPS * (difference - tf.reduce_sum(drawn, axis=0) * expected)

    def _curvature(self, u: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """About d2 loss / db_i^2, mean over examples and positions, `[units]`: the regression of slopes on bits."""
        m, t = self._cell(u)
        b = tf.cast(uniform(tf.stack([t] * PILOTS), seed) + 0.5 < t, t.dtype)
        slopes = tf.stack([self._slope(m + bits)[1] for bits in b])
        b, slopes = b - tf.reduce_mean(b, axis=0), slopes - tf.reduce_mean(slopes, axis=0)
        axes = list(range(len(b.shape) - 1))
        return tf.math.divide_no_nan(tf.reduce_sum(b * slopes, axes), tf.reduce_sum(b * b, axes))

    def _cell(self, u: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The code below `u`, of which the next one exists too, and the place between them, from 0 to 1."""
        m = tf.floor(u)
        if self.autoencoder.latent.levels is not None:
            m = tf.clip_by_value(m, 0, self.autoencoder.latent.levels - 2)
        return m, u - m

    @tf.function(autograph=False)
    def _slope(self, code: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Each example's loss, `[examples]`, and its gradient, of the shape of `code`."""
        with tf.GradientTape() as tape:
            tape.watch(code)
            loss = self.loss(self.x, self.autoencoder.decode(code))
        return loss, tape.gradient(loss, code)

    def _losses(self, codes: tf.Tensor) -> tf.Tensor:
        """`codes [2^k, examples, ..., units]` to losses `[2^k, examples]`, a bounded number of them at once."""
        count, chunk = codes.shape[0], 1
        while 2 * chunk <= min(count, ELEMENTS // self.x.shape.num_elements()):
            chunk *= 2
        return tf.concat([self._loss(codes[first : first + chunk]) for first in range(0, count, chunk)], axis=0)

    @tf.function(autograph=False)
    def _loss(self, codes: tf.Tensor) -> tf.Tensor:
        """`codes [count, examples, ..., units]` to losses `[count, examples]`."""
        x = tf.tile(self.x, [codes.shape[0]] + [1] * (len(self.x.shape) - 1))
        losses = self.loss(x, self.autoencoder.decode(tf.reshape(codes, [-1, *codes.shape[2:]])))
        return tf.reshape(losses, codes.shape[:2])


def expectation(losses: tf.Tensor, t: tf.Tensor) -> tf.Tensor:
    """The mean over bits that are 1 with probability `t`: a differentiable function of `t`, at 0 and 1 too.

    Args:
        losses: of all vectors of bits, in the order of the binary numbers they are, `[2^codes, examples]`.
        t: `[examples, codes]`.

    Returns:
        `[examples]`.
    """
    for place in tf.unstack(t, axis=1):
        zero, one = tf.split(losses, 2)
        losses = zero + place * (one - zero)
    return losses[0]


def compare(products: np.ndarray, groups: int) -> dict[str, float]:
    """Cosine and its error, bias and variance, see `GradientQuality`.

    Args:
        products: of all vectors with all, the reference's independent estimates first, then the strategy's draws.
        groups: how many are the reference's; a single one is exact.

    Returns:
        By name; NaN where the reference's squared length, estimated without bias, is not above 0.
    """
    reference, mixed, strategy = products[:groups, :groups], products[:groups, groups:], products[groups:, groups:]
    length_squared = _square_of_mean(reference)
    if length_squared <= 0:
        return dict.fromkeys(("cosine", "cosine_error", "bias", "variance"), float("nan"))
    square = _square_of_mean(strategy)
    bias = (square - 2 * mixed.mean() + length_squared) / length_squared
    return {
        "cosine": float(_cosines(products, groups).mean()),
        "cosine_error": float(np.hypot(_jackknife(products, groups), _draws_error(products, groups))),
        "bias": float(np.sqrt(max(bias, 0))),
        "variance": float((np.diag(strategy).mean() - square) / length_squared),
    }


def _square_of_mean(products: np.ndarray) -> float:
    """The squared length of the vectors' mean; of several, without the part that is their noise's."""
    count = len(products)
    return float(products[0, 0] if count == 1 else (products.sum() - np.trace(products)) / (count * (count - 1)))


def _cosines(products: np.ndarray, groups: int) -> np.ndarray:
    """Of each of the strategy's draws; NaN where noise hides the reference."""
    length_squared = _square_of_mean(products[:groups, :groups])
    lengths = np.sqrt(np.diag(products)[groups:])
    along = products[:groups, groups:].mean(axis=0)
    cosines = np.divide(along, lengths, out=np.zeros_like(along), where=lengths > 0)
    return cosines / np.sqrt(length_squared) if length_squared > 0 else np.full_like(cosines, np.nan)


def _draws_error(products: np.ndarray, groups: int) -> float:
    """The standard error of the mean cosine from the strategy's own draws."""
    cosines = _cosines(products, groups)
    return float(np.std(cosines, ddof=1) / np.sqrt(len(cosines))) if len(cosines) > 1 else 0.0


def _jackknife(products: np.ndarray, groups: int) -> float:
    """The cosine's standard error from the reference's estimates, by leaving out each in turn: the jackknife."""
    if groups == 1:
        return 0.0
    left = [np.delete(np.delete(products, group, axis=0), group, axis=1) for group in range(groups)]
    return float(np.sqrt((groups - 1) * np.var([_cosines(rest, groups - 1).mean() for rest in left])))
