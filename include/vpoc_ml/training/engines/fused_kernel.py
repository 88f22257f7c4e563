"""Training steps as one compiled loop, for nets that are too small for a call per layer.

Rows of the workspace are units, columns are rows of the batch, so the innermost loops run over a batch and
compile to vector instructions. Sums may be reordered by the compiler, NaN and infinity keep their meaning.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from vpoc_ml.training.engines.program import (
    ADAPTIVE_HUBER,
    ADD,
    DROPOUT,
    HUBER,
    LINEAR,
    MSE,
    NORM,
    RELU,
    SHIFT,
    SIGMOID,
)
from vpoc_ml.training.loop import adamw_step as arithmetic
from vpoc_ml.training.loop.adamw_step import AVERAGE, MEAN, SQUARE, THETA

Floats = npt.NDArray[np.float32]
Wide = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SAFE = {"reassoc", "contract", "arcp", "nsz"}  # not nnan, ninf: the guards test for both
UPDATES, LOG_NORM, LOG_SPREAD = arithmetic.UPDATES, arithmetic.LOG_NORM, arithmetic.LOG_SPREAD
LOG_DELTA = arithmetic.LOG_DELTA
ZERO, ONE, HALF = np.float32(0), np.float32(1), np.float32(0.5)
MASK = np.uint64(0xFFFFFFFF)


class Rules(NamedTuple):
    """Numbers of ``adamw_step``. Arguments: a cached kernel ignores changes of its file."""

    beta1: float
    beta2: float
    epsilon: float
    norm_decay: float
    norm_steps: float
    deviations: float
    least_spread: float
    delta_decay: float
    delta_quantile: float
    delta_range: float
    delta_rows: float


# Helpers become part of take_steps. As functions of their own they exist twice, in their library and in its, optimised
# apart; which copy a call meets would depend on whether the code came from the cache, and with it the last bits.
helper = numba.njit(fastmath=SAFE, nogil=True, error_model="numpy", forceinline=True)


@helper
def fill(row: Floats, value: np.float32) -> None:
    """Set every element of ``row`` [n]; loops, because array expressions take the compiler seconds each."""
    for k in range(len(row)):
        row[k] = value


@helper
def relu(x: Floats) -> None:
    """max(x, 0) in place; NaN stays NaN."""
    for u in range(x.shape[0]):
        row = x[u]
        for b in range(x.shape[1]):
            row[b] = row[b] if row[b] > ZERO or row[b] != row[b] else ZERO


@helper
def relu_back(value: Floats, slope: Floats) -> None:
    """Slope 0 where the value is 0."""
    for u in range(value.shape[0]):
        row, d = value[u], slope[u]
        for b in range(value.shape[1]):
            d[b] = d[b] if row[b] > ZERO or row[b] != row[b] else ZERO


@helper
def add(x: Floats, other: Floats) -> None:
    """x += other."""
    for u in range(x.shape[0]):
        row, more = x[u], other[u]
        for b in range(x.shape[1]):
            row[b] += more[b]


@helper
def multiply(x: Floats, other: Floats) -> None:
    """x *= other."""
    for u in range(x.shape[0]):
        row, factor = x[u], other[u]
        for b in range(x.shape[1]):
            row[b] *= factor[b]


@helper
def sigmoid(row: Floats) -> None:
    """1 / (1 + exp(-x)) in place."""
    for b in range(len(row)):
        row[b] = ONE / (ONE + math.exp(-row[b]))


@helper
def sigmoid_back(value: Floats, slope: Floats) -> None:
    """Slope times value (1 - value)."""
    for b in range(len(value)):
        slope[b] *= value[b] * (ONE - value[b])


@helper
def linear(x: Floats, out: Floats, weight: Floats, bias: Floats) -> None:
    """out [o, b] = weight [o, i] x [i, b] + bias [o]."""
    outputs, batch = out.shape
    inputs = x.shape[0]
    for o in range(outputs):
        row = out[o]
        fill(row, bias[o])
        at = o * inputs
        i = 0
        while i + 4 <= inputs:
            w0, w1, w2, w3 = weight[at + i], weight[at + i + 1], weight[at + i + 2], weight[at + i + 3]
            x0, x1, x2, x3 = x[i], x[i + 1], x[i + 2], x[i + 3]
            for b in range(batch):
                row[b] += w0 * x0[b] + w1 * x1[b] + w2 * x2[b] + w3 * x3[b]
            i += 4
        while i < inputs:
            w, xi = weight[at + i], x[i]
            for b in range(batch):
                row[b] += w * xi[b]
            i += 1


@helper
def linear_back(x: Floats, dout: Floats, dweight: Floats, dbias: Floats) -> None:
    """dweight = dout x', dbias = sum of dout."""
    outputs, batch = dout.shape
    inputs = x.shape[0]
    for o in range(outputs):
        row = dout[o]
        total = ZERO
        for b in range(batch):
            total += row[b]
        dbias[o] = total
        at = o * inputs
        for i in range(inputs):
            xi = x[i]
            total = ZERO
            for b in range(batch):
                total += row[b] * xi[b]
            dweight[at + i] = total


@helper
def linear_through(dout: Floats, weight: Floats, dx: Floats) -> None:
    """dx += weight' dout."""
    outputs, inputs, batch = dout.shape[0], dx.shape[0], dx.shape[1]
    for i in range(inputs):
        row = dx[i]
        o = 0
        while o + 4 <= outputs:
            w0, w1 = weight[o * inputs + i], weight[(o + 1) * inputs + i]
            w2, w3 = weight[(o + 2) * inputs + i], weight[(o + 3) * inputs + i]
            d0, d1, d2, d3 = dout[o], dout[o + 1], dout[o + 2], dout[o + 3]
            for b in range(batch):
                row[b] += w0 * d0[b] + w1 * d1[b] + w2 * d2[b] + w3 * d3[b]
            o += 4
        while o < outputs:
            w, d = weight[o * inputs + i], dout[o]
            for b in range(batch):
                row[b] += w * d[b]
            o += 1


@helper
def norm(x: Floats, out: Floats, kept: Floats, gain: Floats, bias: Floats, epsilon: np.float32) -> None:
    """Layer normalisation over the units of each column; ``kept`` [units + 1, b]: centred and scaled, 1 / deviation."""
    units, batch = x.shape
    mean, scale = out[0], kept[units]
    share = ONE / np.float32(units)
    fill(mean, ZERO)
    fill(scale, ZERO)
    for u in range(units):
        row = x[u]
        for b in range(batch):
            mean[b] += row[b] * share
    for u in range(units):
        row, away = x[u], kept[u]
        for b in range(batch):
            away[b] = row[b] - mean[b]
            scale[b] += away[b] * away[b] * share
    for b in range(batch):
        scale[b] = ONE / math.sqrt(scale[b] + epsilon)
    for u in range(units):
        away, row = kept[u], out[u]
        g, c = gain[u], bias[u]
        for b in range(batch):
            away[b] *= scale[b]
            row[b] = away[b] * g + c


@helper
def norm_back(
    kept: Floats, dout: Floats, gain: Floats, dx: Floats, dgain: Floats, dbias: Floats, spare: Floats
) -> None:
    """dx += (d - mean d - x^ mean(d x^)) / deviation with d = gain dout; ``spare`` [2, b] is scratch."""
    units, batch = dout.shape
    mean, along, scale = spare[0], spare[1], kept[units]
    share = ONE / np.float32(units)
    fill(mean, ZERO)
    fill(along, ZERO)
    for u in range(units):
        row, away = dout[u], kept[u]
        g = gain[u] * share
        total, tilted = ZERO, ZERO
        for b in range(batch):
            total += row[b]
            tilted += row[b] * away[b]
            mean[b] += g * row[b]
            along[b] += g * row[b] * away[b]
        dbias[u] = total
        dgain[u] = tilted
    for u in range(units):
        row, away, target = dout[u], kept[u], dx[u]
        g = gain[u]
        for b in range(batch):
            target[b] += (g * row[b] - mean[b] - away[b] * along[b]) * scale[b]


@helper
def dropout(x: Floats, factors: Floats, probability: np.float32, seed: np.uint64) -> None:
    """Multiply by 0 or 1 / (1 - p), by a hash of (seed, unit, row): a resumed step drops what it would have."""
    units, batch = x.shape
    keep = ONE / (ONE - probability)
    limit = np.uint64(np.float64(probability) * 4294967296.0)
    for u in range(units):
        row, factor = x[u], factors[u]
        start = (seed + np.uint64(u) * np.uint64(0x9E3779B9)) & MASK
        for b in range(batch):
            h = (start + np.uint64(b) * np.uint64(0x85EBCA6B)) & MASK  # then lowbias32 (Wellons 2018)
            h = ((h ^ (h >> np.uint64(16))) * np.uint64(0x7FEB352D)) & MASK
            h = ((h ^ (h >> np.uint64(15))) * np.uint64(0x846CA68B)) & MASK
            h = h ^ (h >> np.uint64(16))
            factor[b] = ZERO if h < limit else keep
            row[b] *= factor[b]


@helper
def forward(theta: Floats, work: Floats, operations: Ints, numbers: Floats, seed: np.uint64) -> None:
    """Run the program over the workspace, whose first rows hold the inputs."""
    for n in range(len(operations)):
        code, inputs, outputs, source, at, w, c = operations[n]
        out = work[at : at + outputs]
        if code == LINEAR:
            linear(work[source : source + inputs], out, theta[w : w + inputs * outputs], theta[c : c + outputs])
        elif code == NORM:
            kept = work[at + outputs : at + 2 * outputs + 1]
            gain, bias = theta[w : w + inputs], theta[c : c + inputs]
            norm(work[source : source + inputs], out, kept, gain, bias, numbers[n])
        elif code == RELU:
            relu(out)
        elif code == DROPOUT:
            key = (seed ^ (np.uint64(n + 1) * np.uint64(0xC2B2AE35))) & MASK
            dropout(out, work[source : source + outputs], numbers[n], key)
        elif code == ADD:
            add(out, work[source : source + outputs])
        elif code == SHIFT:
            for b in range(work.shape[1]):
                work[at, b] += numbers[n]
        elif code == SIGMOID:
            sigmoid(work[at])


@helper
def backward(
    theta: Floats, work: Floats, slopes: Floats, gradient: Floats, operations: Ints, numbers: Floats, spare: Floats
) -> None:
    """Fill ``gradient`` [P]; ``slopes`` is laid out as the workspace and holds the slope of the output."""
    for n in range(len(operations) - 1, -1, -1):
        code, inputs, outputs, source, at, w, c = operations[n]
        dout = slopes[at : at + outputs]
        if code == LINEAR:
            size = inputs * outputs
            linear_back(work[source : source + inputs], dout, gradient[w : w + size], gradient[c : c + outputs])
            if source > 0:  # the slope of the inputs is not needed
                linear_through(dout, theta[w : w + size], slopes[source : source + inputs])
        elif code == NORM:
            kept = work[at + outputs : at + 2 * outputs + 1]
            dgain, dbias = gradient[w : w + inputs], gradient[c : c + inputs]
            norm_back(kept, dout, theta[w : w + inputs], slopes[source : source + inputs], dgain, dbias, spare)
        elif code == RELU:
            relu_back(work[at : at + outputs], dout)
        elif code == DROPOUT:
            multiply(dout, work[source : source + outputs])
        elif code == ADD:
            add(slopes[source : source + outputs], dout)
        elif code == SIGMOID:
            sigmoid_back(work[at], slopes[at])


@helper
def loss_and_slope(
    predicted: Floats, target: Floats, weight: Floats, slope: Floats, kind: int, delta: np.float32
) -> np.float32:
    """Return the weighted mean loss, and fill its slope in each prediction."""
    rows = len(target)
    total = ZERO
    for b in range(rows):
        total += weight[b]
    share = ONE / max(total, ONE)
    loss = ZERO
    for b in range(rows):
        error = predicted[b] - target[b]
        if kind == HUBER:
            size = abs(error)
            inside = size <= delta or size != size
            each = HALF * error * error if inside else delta * (size - HALF * delta)
            d = error if inside else (delta if error > ZERO else -delta)
        elif kind == MSE:
            each, d = error * error, error + error
        else:
            z = predicted[b]
            small = math.exp(-abs(z))
            each = max(z, ZERO) - z * target[b] + math.log(ONE + small)
            d = (ONE if z >= ZERO else small) / (ONE + small) - target[b]
        loss += each * weight[b]
        slope[b] = d * weight[b] * share
    return np.float32(loss * share)


@helper
def adaptive_slope(predicted: Floats, target: Floats, weight: Floats, slope: Floats, log_delta: float) -> None:
    """Fill the slope of the Huber loss over the adaptive delta; see ``loss.scaled_huber``."""
    rows, delta = len(target), np.float32(math.exp(log_delta))
    total = ZERO
    for b in range(rows):
        total += weight[b]
    share = ONE / max(total, ONE)
    for b in range(rows):
        error = predicted[b] - target[b]
        inside = abs(error) <= delta or error != error
        d = error / delta if inside else (ONE if error > ZERO else -ONE)
        slope[b] = d * weight[b] * share


@helper
def next_log_delta(
    log_delta: float, predicted: Floats, target: Floats, weight: Floats, sizes: Floats, fixed: float, rules: Rules
) -> float:
    """Return the logarithm of the adaptive delta after this batch; see ``adamw_step.next_log_delta``.

    ``sizes`` [rows] is scratch. It takes the sizes of the usable residuals in ascending order.
    """
    count = 0
    for b in range(len(target)):
        size = abs(predicted[b] - target[b])
        if weight[b] > ZERO and math.isfinite(size):
            at = count
            while at > 0 and sizes[at - 1] > size:
                sizes[at] = sizes[at - 1]
                at -= 1
            sizes[at] = size
            count += 1
    if count < rules.delta_rows:
        return log_delta
    position = rules.delta_quantile * (count - 1)
    below = int(position)
    above = min(below + 1, count - 1)
    reached = sizes[below] + (sizes[above] - sizes[below]) * (position - below)
    bounded = min(max(reached, fixed / rules.delta_range), fixed * rules.delta_range)
    return rules.delta_decay * log_delta + (1.0 - rules.delta_decay) * math.log(bounded)


@helper
def clip_limit(step_state: Wide, fixed: float, adaptive: bool, rules: Rules) -> float:
    """Return the largest norm allowed; see ``adamw_step.clip_limit``."""
    if not adaptive or step_state[UPDATES] < rules.norm_steps:
        return fixed
    spread = max(math.sqrt(step_state[LOG_SPREAD]), rules.least_spread)
    return min(fixed, math.exp(step_state[LOG_NORM] + rules.deviations * spread))


@helper
def learn_norm(step_state: Wide, size: float, limit: float, rules: Rules) -> None:
    """Put one more norm into the running statistics; see ``adamw_step.norm_statistics``."""
    value = math.log(max(min(size, limit), 1e-30))
    share = max(1.0 / (step_state[UPDATES] + 1.0), 1.0 - rules.norm_decay)
    away = value - step_state[LOG_NORM]
    step_state[LOG_NORM] += share * away
    step_state[LOG_SPREAD] = (1.0 - share) * (step_state[LOG_SPREAD] + share * away * away)


@helper
def adam(
    state: Floats,
    gradient: Floats,
    decayed: Floats,
    shrink: float,
    count: float,
    rate: float,
    fade: float,
    decay: float,
    rules: Rules,
) -> tuple[float, float]:
    """Move weights, moments and averages in place; return |move|, |weights before|. ``fade``: rate x weight decay."""
    theta, mean, square, average = state[THETA], state[MEAN], state[SQUARE], state[AVERAGE]
    b1, b2 = np.float32(1.0 - rules.beta1), np.float32(rules.beta2)
    c2 = np.float32(1.0 - rules.beta2**count)
    step, small = np.float32(rate / (1.0 - rules.beta1**count)), np.float32(rules.epsilon)
    r2, less, factor, pull = ONE - b2, np.float32(fade), np.float32(shrink), np.float32(1.0 - decay)
    moved, length = ZERO, ZERO
    for k in range(len(theta)):
        g = gradient[k] * factor
        m = mean[k] + b1 * (g - mean[k])
        v = square[k] * b2 + r2 * g * g
        move = m / (math.sqrt(v / c2) + small) * step
        before = theta[k]
        after = before - decayed[k] * before * less - move
        moved += move * move
        length += before * before
        theta[k], mean[k], square[k] = after, m, v
        average[k] += pull * (after - average[k])
    return math.sqrt(moved), math.sqrt(length)


@numba.njit(cache=True, fastmath=SAFE, nogil=True, error_model="numpy")
def take_steps(
    state: Floats,
    step_state: Wide,
    records: Floats,
    inputs: Floats,
    target: Floats,
    weight: Floats,
    rates: Wide,
    decays: Wide,
    seeds: npt.NDArray[np.uint64],
    operations: Ints,
    numbers: Floats,
    output: int,
    work: Floats,
    slopes: Floats,
    spare: Floats,
    gradient: Floats,
    decayed: Floats,
    kind: int,
    delta: np.float32,
    fixed: float,
    adaptive: bool,
    weight_decay: float,
    select: bool,
    rules: Rules,
) -> None:
    """Take one step per entry of ``rates`` on consecutive batches of ``work.shape[1]`` rows.

    A step whose loss or gradient norm is not finite leaves ``state`` and ``step_state`` as they were. Each step
    writes loss, norm, norm over limit, length of the move and of the weights into its row of ``records`` [steps, 5].
    """
    batch, features = work.shape[1], inputs.shape[1]
    for step in range(len(rates)):
        first = step * batch
        for f in range(features):
            for b in range(batch):
                work[f, b] = inputs[first + b, f]
        forward(state[THETA], work, operations, numbers, seeds[step])
        for row in slopes:
            fill(row, ZERO)
        rows = slice(first, first + batch)
        reported = HUBER if kind == ADAPTIVE_HUBER else kind
        loss = loss_and_slope(work[output], target[rows], weight[rows], slopes[output], reported, delta)
        if kind == ADAPTIVE_HUBER:
            adaptive_slope(work[output], target[rows], weight[rows], slopes[output], step_state[LOG_DELTA])
        backward(state[THETA], work, slopes, gradient, operations, numbers, spare)
        total = ZERO
        for k in range(len(gradient)):
            total += gradient[k] * gradient[k]
        size = np.float64(math.sqrt(total))
        limit = clip_limit(step_state, fixed, adaptive, rules)
        finite = math.isfinite(loss) and math.isfinite(size)
        move, length = 0.0, 0.0
        if finite or not select:
            shrink, count, rate = 1.0 / max(1.0, size / limit), step_state[UPDATES] + 1.0, rates[step]
            move, length = adam(state, gradient, decayed, shrink, count, rate, rate * weight_decay, decays[step], rules)
            if adaptive:
                learn_norm(step_state, size, limit, rules)
            if kind == ADAPTIVE_HUBER:
                step_state[LOG_DELTA] = next_log_delta(
                    step_state[LOG_DELTA], work[output], target[rows], weight[rows], spare[0], np.float64(delta), rules
                )
            step_state[UPDATES] = count
        records[step, 0], records[step, 1], records[step, 2] = loss, np.float32(size), np.float32(size / limit)
        records[step, 3], records[step, 4] = np.float32(move), np.float32(length)
