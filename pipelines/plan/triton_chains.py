"""The operations of a policy, drawn on a GPU by one Triton kernel: `draw_chains`.

In: the position, the samples and their geometry, the numbers of a policy (`device_chains.table`),
all in the memory of the device. Out: the arrays of `slipform.pipelines.plan.chains.Chains`. The
arithmetic is that of `chains`, which is the reference. Rotations and the weights of AugMix use
`cos`, `log` and `exp`, whose last bit may differ; see `slipform.pipelines.plan.triton`. An attempt
to draw a weight may then have another outcome, if it is within 2**-50 of its limit.
"""

from __future__ import annotations

import triton
import triton.language as tl

from slipform.pipelines.plan.triton_philox import uniforms

__all__ = ["UNCHANGED", "draw_chains"]

UNCHANGED = tl.constexpr(-2)  # in `moves`: there is one chain, and no operation changes pixels


@triton.jit
def draw_chains(
    position,
    indices,
    floats,
    numbers,
    moved,
    codes,
    amounts,
    weights,
    moves,
    count,
    CHAINS: tl.constexpr,
    DEPTH: tl.constexpr,
    RANDOM_DEPTH: tl.constexpr,
    MIXED: tl.constexpr,
    SMALL_ALPHA: tl.constexpr,
    OPERATIONS: tl.constexpr,
    BINS: tl.constexpr,
    FIXED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Draw the operations of a batch, on a grid of count / BLOCK programs, rounded up.

    Args:
        position: int64 [3]: epoch, samples of it seen, seed.
        indices: int64 [count], the samples.
        floats: float32 [count, 21], whose first nine numbers are the geometry.
        numbers: float64, from `device_chains.table`.
        moved: Output, float32 [count, CHAINS, 9].
        codes: Output, int32 [count, CHAINS, DEPTH].
        amounts: Output, float32 [count, CHAINS, DEPTH].
        weights: Output, float32 [count, CHAINS].
        moves: Output, int32 [count, CHAINS], the position of the last operation on positions. -1:
            there is none. -2: there is one chain, and no operation changes pixels.
        count: Samples of the batch.
        CHAINS: Chains, with the image itself.
        DEPTH, RANDOM_DEPTH, MIXED: As in `Space`.
        SMALL_ALPHA: Whether alpha is below 1.
        OPERATIONS, BINS: Operations to choose from, and magnitudes of each.
        FIXED: Fixed policies to choose from. 0: operations are drawn one by one.
        BLOCK: Samples per program.
    """
    i = (tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)).to(tl.int64)
    live = i < count
    epoch, seed = tl.load(position), tl.load(position + 2)
    index = tl.load(indices + i, mask=live, other=0)
    fixed = index * 0
    if FIXED > 0:
        u0, _, _, _ = uniforms(seed, epoch, index, 140)
        fixed = (u0 * FIXED).to(tl.int64)
    for c in range(CHAINS):
        g = floats + 21 * i
        t00, t01, t02 = _row(g, live)
        t10, t11, t12 = _row(g + 3, live)
        t20, t21, t22 = _row(g + 6, live)
        number = c - MIXED  # -1: the image itself, which has no operations
        depth = index * 0 + DEPTH
        if RANDOM_DEPTH:
            u0, _, _, _ = uniforms(seed, epoch, index, number + 141)
            depth = 1 + (u0 * 3).to(tl.int64)
        row = i * CHAINS + c
        last, paints = index * 0 - 1, index < 0
        for k in range(DEPTH):
            code, amount = _operation(
                seed, epoch, index, numbers, fixed, number, k, OPERATIONS, BINS, FIXED, DEPTH, live
            )
            drawn = (k < depth) & (code >= 0) & (number >= 0)
            code, amount = tl.where(drawn, code, 0), tl.where(drawn, amount, 0.0)
            tl.store(codes + row * DEPTH + k, code.to(tl.int32), mask=live)
            tl.store(amounts + row * DEPTH + k, amount.to(tl.float32), mask=live)
            a00, a01, a02, a10, a11, a12 = _map_of(code, amount, numbers)
            move = (code >= 1) & (code <= 5)
            last, paints = tl.where(move, k, last), paints | (code > 5)
            t00, t01, t02 = _joined(t00, t01, t02, a00, a01, a02, a10, a11, a12, move)
            t10, t11, t12 = _joined(t10, t11, t12, a00, a01, a02, a10, a11, a12, move)
            t20, t21, t22 = _joined(t20, t21, t22, a00, a01, a02, a10, a11, a12, move)
        if CHAINS == 1:
            last = tl.where(paints, last, UNCHANGED)
        tl.store(moves + row, last.to(tl.int32), mask=live)
        out = moved + 9 * row
        _store_three(out, t00, t01, t02, live)
        _store_three(out + 3, t10, t11, t12, live)
        _store_three(out + 6, t20, t21, t22, live)
        if not MIXED:
            tl.store(weights + row, (index * 0 + 1).to(tl.float32), mask=live)
    if MIXED:
        _weigh(seed, epoch, index, numbers, weights + i * CHAINS, live, CHAINS, SMALL_ALPHA)


@triton.jit
def _row(g, live):
    """Three numbers of each sample in float64."""
    return (
        tl.load(g, mask=live, other=0).to(tl.float64),
        tl.load(g + 1, mask=live, other=0).to(tl.float64),
        tl.load(g + 2, mask=live, other=0).to(tl.float64),
    )


@triton.jit
def _store_three(out, a, b, c, live):
    tl.store(out, a.to(tl.float32), mask=live)
    tl.store(out + 1, b.to(tl.float32), mask=live)
    tl.store(out + 2, c.to(tl.float32), mask=live)


@triton.jit
def _operation(
    seed, epoch, index, numbers, fixed, number, k,
    OPERATIONS: tl.constexpr, BINS: tl.constexpr, FIXED: tl.constexpr, DEPTH: tl.constexpr, live,
):  # fmt: skip
    """The code of an operation of a chain, int64 (-1: none), and its magnitude with a sign."""
    u0, u1, u2, u3 = uniforms(seed, epoch, index, 10 * number + k + 40)
    skipped = u3 < 0
    if FIXED > 0:
        one = numbers + 8 + OPERATIONS * (2 + BINS) + 3 * (fixed * DEPTH + k)
        at = tl.load(one, mask=live, other=0).to(tl.int64)
        which = tl.load(one + 1, mask=live, other=0).to(tl.int64)
        skipped = u3 > tl.load(one + 2, mask=live, other=0)
    else:
        at = (u0 * OPERATIONS).to(tl.int64)
        which = tl.load(numbers + 1).to(tl.int64) + (u1 * tl.load(numbers + 2)).to(tl.int64)
    operation = numbers + 8 + at * (2 + BINS)
    code = tl.load(operation, mask=live, other=0).to(tl.int64)
    is_signed = tl.load(operation + 1, mask=live, other=0) > 0
    amount = tl.load(operation + 2 + which, mask=live, other=0)
    amount = tl.where(is_signed & (u2 < 0.5), -amount, amount)
    return tl.where(skipped, -1, code), amount


@triton.jit
def _map_of(code, amount, numbers):
    """The first two rows of an operation on positions, as in `chains.join`. The codes are those of
    `operations`: 1, 2 shear, 3, 4 translate, 5 rotate."""
    zero, middle = amount * 0, tl.load(numbers) / 2
    whole = tl.where(amount < 0, tl.ceil(amount), tl.floor(amount))
    angle = amount * tl.load(numbers + 4)
    turns = code == 5
    cos, sin = tl.where(turns, tl.cos(angle), 1.0), tl.where(turns, tl.sin(angle), 0.0)
    a01 = tl.where(code == 1, amount, tl.where(turns, -sin, zero))
    a10 = tl.where(code == 2, amount, tl.where(turns, sin, zero))
    a02 = tl.where(code == 3, -whole, tl.where(turns, middle - middle * (cos - sin), zero))
    a12 = tl.where(code == 4, -whole, tl.where(turns, middle - middle * (sin + cos), zero))
    return cos, a01, a02, a10, cos, a12


@triton.jit
def _joined(x, y, z, a00, a01, a02, a10, a11, a12, move):
    """A row of the geometry, joined with an operation."""
    first, second = x * a00 + y * a10, x * a01 + y * a11
    third = x * a02 + y * a12 + z
    return tl.where(move, first, x), tl.where(move, second, y), tl.where(move, third, z)


@triton.jit
def _weigh(seed, epoch, index, numbers, out, live, CHAINS: tl.constexpr, SMALL_ALPHA: tl.constexpr):
    """The weights of AugMix, as `chains._draw_weights`: of float32 gammas, unless all are 0."""
    own = _gamma(seed, epoch, index, numbers, 0, SMALL_ALPHA)
    other = _gamma(seed, epoch, index, numbers, 1, SMALL_ALPHA)
    share = other / (own + other)
    total, exact = own * 0, own * 0
    for c in range(1, CHAINS):
        value = _gamma(seed, epoch, index, numbers, 1 + c, SMALL_ALPHA)
        total, exact = total + value.to(tl.float32).to(tl.float64), exact + value
    are_lost = total == 0
    total = tl.where(are_lost, exact, total)
    for c in range(1, CHAINS):
        value = _gamma(seed, epoch, index, numbers, 1 + c, SMALL_ALPHA)
        value = tl.where(are_lost, value, value.to(tl.float32).to(tl.float64)) / total * share
        tl.store(out + c, value.to(tl.float32), mask=live)
    tl.store(out, (1 - share).to(tl.float32), mask=live)


@triton.jit
def _gamma(seed, epoch, index, numbers, number, SMALL_ALPHA: tl.constexpr):
    """A number from the Gamma distribution, as `chains._gamma`."""
    alpha = tl.load(numbers + 3)
    d = (alpha + 1 if SMALL_ALPHA else alpha) - tl.load(numbers + 6)
    c = 1 / tl.sqrt(9 * d)
    value = index.to(tl.float64) * 0 + d
    found = index < 0
    for attempt in range(20):
        u0, u1, u2, u3 = uniforms(seed, epoch, index, 20 * number + attempt + 200)
        normal = tl.sqrt(-2 * tl.log(u0)) * tl.cos(tl.load(numbers + 5) * u1)
        root = 1 + c * normal
        v = root * (root * root)
        log_v = tl.log(tl.where(v > 0, v, 1.0))
        fits = (v > 0) & (tl.log(u2) < 0.5 * (normal * normal) + d * (1 - v + log_v))
        fits = fits & (found == 0)
        one = d * v
        if SMALL_ALPHA:
            one *= tl.exp(tl.log(u3) * (1 / alpha))
        value = tl.where(fits, one, value)
        found = found | fits
    return tl.maximum(value, 1e-300)
