"""Triton kernels of the backward pass: gathers only, so no atomics, and sums in a fixed order.

Each kernel walks the map as `kernels` describes. Reading the gradient with a halo and the input without one
gives both the input's gradient and, tap by tap, the weight's: the sum z = f + resize(y) is made once an element.
A program keeps its share of the weight gradient in registers over all the strips it visits and stores one row of
`partial`, (K·K + 1, C); `reduce_kernel` adds the rows.
"""

import triton
import triton.language as tl

from .kernels import SIZES, columns, items, same, summed, taps


@triton.jit
def store_partial(partial, row, channels, c, sums, bias_sum, COUNT: tl.constexpr):
    """One program's share of the gradients of a weight and its bias."""
    partial += row.to(tl.int64) * (COUNT + 1) * channels
    for i in tl.static_range(COUNT):
        tl.store(partial + i * channels + c, tl.sum(sums[i], 0), mask=c < channels)
    tl.store(partial + COUNT * channels + c, tl.sum(bias_sum, 0), mask=c < channels)


@triton.jit(do_not_specialize=[*SIZES, "programs", "first"])
def conv_backward_kernel(
    g, f, y, w, out, partial, images, height, width, cq, rows, slot, programs, first,
    CDIV: tl.constexpr, K: tl.constexpr, MODE: tl.constexpr, R: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Of conv(z), z = f + resize(y): out is the gradient of z; partial's rows from `first` on the weight's."""
    PAD: tl.constexpr = K // 2
    channels = cq * CDIV
    channel_blocks = tl.cdiv(channels, BC)
    mine = tl.program_id(0) // channel_blocks
    blocks = tl.cdiv(images * tl.cdiv(height, rows) * tl.cdiv(width, R), BP)
    uh = (height + 1) // 2
    uw = (width + 1) // 2
    c = (tl.program_id(0) % channel_blocks) * BC + tl.arange(0, BC)
    cmask = (c < channels)[None, :]
    weight = taps(w + slot * (K * K + 1) * channels, c, channels, 0, K * K)
    zero = tl.zeros([BP, BC], tl.float32)
    sums = same(zero, K * K)
    bias_sum = zero
    for visit in range(mine, blocks, programs):
        block = visit * channel_blocks + tl.program_id(0) % channel_blocks
        _, n, row0, col0, live = items(images, height, width, channels, rows, R, BP, BC, block)
        image = (n.to(tl.int64) * height * width * channels)[:, None] + c[None, :]
        y_image = (n.to(tl.int64) * uh * uw * channels)[:, None] + c[None, :]
        start = tl.maximum(row0 - PAD, 0)
        stop = tl.minimum(row0 + rows, height)
        acc = same(zero, K * R)  # rows row - PAD .. row + PAD of out, and beside them those of z
        z = same(zero, PAD * R)
        for q in tl.static_range(PAD):
            ok = live & (start + q >= row0) & (start + q < stop)
            z = z + summed(f + image, y + y_image, start + q, col0, height, width, channels, ok, cmask, MODE, 0, R)
        for step in range(tl.minimum(rows + 2 * PAD, height + PAD)):
            row = start + step
            ok = live & (row + PAD >= row0) & (row + PAD < stop)
            z = z + summed(f + image, y + y_image, row + PAD, col0, height, width, channels, ok, cmask, MODE, 0, R)
            grad = columns(g + image, row, col0, width, channels, live & (row < height), cmask, -PAD, R + K - 1)
            new = ()
            for q in tl.static_range(K):
                for r in tl.static_range(R):
                    a = acc[q * R + r]
                    for kw in tl.static_range(K):
                        a += grad[r + K - 1 - kw] * weight[q * K + kw]
                    new = new + (a,)
            new_sums = ()
            for q in tl.static_range(K):
                for kw in tl.static_range(K):
                    d = sums[q * K + kw]
                    for r in tl.static_range(R):
                        d += z[q * R + r] * grad[r + K - 1 - kw]
                    new_sums = new_sums + (d,)
            sums = new_sums
            own = (live & (row >= row0) & (row < stop)).to(tl.float32)[:, None]
            for r in tl.static_range(R):
                bias_sum += grad[r + PAD] * own
            done = row - PAD
            ok = live & (done >= row0) & (done < stop)
            for r in tl.static_range(R):
                mask = (ok & (col0 + r < width))[:, None] & cmask
                value = new[r].to(out.dtype.element_ty)
                tl.store(out + image + ((done * width + col0 + r) * channels)[:, None], value, mask=mask)
            acc = new[R:] + same(zero, R)
            z = z[R:]
    store_partial(partial, first + mine, channels, c, sums, bias_sum, K * K)


@triton.jit(do_not_specialize=[*SIZES, "programs", "first"])
def down_backward_kernel(
    g, f, rest, w, out, partial, images, height, width, cq, rows, slot, programs, first,
    CDIV: tl.constexpr, K: tl.constexpr, R: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Of the stride-2 conv(f): out = rest + the gradient of f; partial's rows from `first` on the weight's.

    (height, width) are f's. A lane makes two rows of 2 R columns from the R + HIGH - LOW columns of g around them.
    """
    PAD: tl.constexpr = K // 2
    LOW: tl.constexpr = -(PAD // 2)
    HIGH: tl.constexpr = (PAD + 1) // 2
    WIDE: tl.constexpr = R + HIGH - LOW
    oh = (height + 1) // 2
    ow = (width + 1) // 2
    channels = cq * CDIV
    channel_blocks = tl.cdiv(channels, BC)
    mine = tl.program_id(0) // channel_blocks
    blocks = tl.cdiv(images * tl.cdiv(oh, rows) * tl.cdiv(ow, R), BP)
    c = (tl.program_id(0) % channel_blocks) * BC + tl.arange(0, BC)
    cmask = (c < channels)[None, :]
    weight = taps(w + slot * (K * K + 1) * channels, c, channels, 0, K * K)
    zero = tl.zeros([BP, BC], tl.float32)
    sums = same(zero, K * K)
    bias_sum = zero
    for visit in range(mine, blocks, programs):
        block = visit * channel_blocks + tl.program_id(0) % channel_blocks
        _, n, row0, col0, live = items(images, oh, ow, channels, rows, R, BP, BC, block)
        image = (n.to(tl.int64) * height * width * channels)[:, None] + c[None, :]
        g_image = (n.to(tl.int64) * oh * ow * channels)[:, None] + c[None, :]
        for step in range(tl.minimum(rows, oh)):
            row = row0 + step
            ok = live & (row < oh)
            grad = ()
            for s in tl.static_range(HIGH - LOW + 1):
                near = row + (s + LOW)
                seen = ok & (near >= 0) & (near < oh)
                grad = grad + columns(g + g_image, near, col0, ow, channels, seen, cmask, LOW, WIDE)
            value = ()
            for p in tl.static_range(2):
                seen = ok & (2 * row + p < height)
                value = value + columns(f + image, 2 * row + p, 2 * col0, width, channels, seen, cmask, 0, 2 * R)
            new_sums = ()
            for kh in tl.static_range(K):
                for kw in tl.static_range(K):
                    d = sums[kh * K + kw]
                    for q in tl.static_range(2 * R):
                        if (q + PAD - kw) % 2 == 0:
                            d += (
                                value[((kh + PAD) % 2) * 2 * R + q]
                                * grad[(((kh + PAD) % 2 + PAD - kh) // 2 - LOW) * WIDE + (q + PAD - kw) // 2 - LOW]
                            )
                    new_sums = new_sums + (d,)
            sums = new_sums
            for r in tl.static_range(R):
                bias_sum += grad[-LOW * WIDE + r - LOW]
            for p in tl.static_range(2):
                seen = ok & (2 * row + p < height)
                above = columns(rest + image, 2 * row + p, 2 * col0, width, channels, seen, cmask, 0, 2 * R)
                for q in tl.static_range(2 * R):
                    a = above[q]
                    for kh in tl.static_range(K):
                        for kw in tl.static_range(K):
                            if (p + PAD - kh) % 2 == 0 and (q + PAD - kw) % 2 == 0:
                                a += (
                                    grad[((p + PAD - kh) // 2 - LOW) * WIDE + (q + PAD - kw) // 2 - LOW]
                                    * weight[kh * K + kw]
                                )
                    col = 2 * col0 + q
                    mask = (seen & (col < width))[:, None] & cmask
                    a = a.to(out.dtype.element_ty)
                    tl.store(out + image + (((2 * row + p) * width + col) * channels)[:, None], a, mask=mask)
    store_partial(partial, first + mine, channels, c, sums, bias_sum, K * K)


@triton.jit
def share_of(fine, coarse, size, half):
    """Weight of the coarse position in the bilinear resize at the fine one; zero outside the map."""
    at = tl.maximum((fine.to(tl.float32) + 0.5) * (half.to(tl.float32) / size.to(tl.float32)) - 0.5, 0.0)
    low = tl.minimum(at.to(tl.int32), half - 1)
    share = at - low.to(tl.float32)
    weight = tl.where(low == coarse, 1.0 - share, 0.0) + tl.where(tl.minimum(low + 1, half - 1) == coarse, share, 0.0)
    return tl.where((fine >= 0) & (fine < size), weight, 0.0)


@triton.jit(do_not_specialize=SIZES)
def resize_backward_kernel(
    g, out, images, height, width, cq,
    CDIV: tl.constexpr, NEAREST: tl.constexpr, FIRST: tl.constexpr, COUNT: tl.constexpr,
    BP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Gradient of the half-size map; (height, width) are g's. COUNT fine rows and columns from 2 i + FIRST."""
    uh = (height + 1) // 2
    uw = (width + 1) // 2
    channels = cq * CDIV
    c, n, row, col, live = items(images, uh, uw, channels, 1, 1, BP, BC, tl.program_id(0))
    cmask = (c < channels)[None, :]
    g += (n.to(tl.int64) * height * width * channels)[:, None] + c[None, :]
    total = tl.zeros([BP, BC], tl.float32)
    for i in tl.static_range(COUNT):
        fine_row = 2 * row + (i + FIRST)
        for j in tl.static_range(COUNT):
            fine_col = 2 * col + (j + FIRST)
            ok = live & (fine_row >= 0) & (fine_row < height) & (fine_col >= 0) & (fine_col < width)
            at = ((fine_row * width + fine_col) * channels)[:, None]
            v = tl.load(g + at, mask=ok[:, None] & cmask, other=0.0)
            if NEAREST:
                total += v
            else:
                total += v * (share_of(fine_row, row, height, uh) * share_of(fine_col, col, width, uw))[:, None]
    out += (n.to(tl.int64) * uh * uw * channels)[:, None] + c[None, :]
    tl.store(out + ((row * uw + col) * channels)[:, None], total, mask=live[:, None] & cmask)


@triton.jit(do_not_specialize=["channels", "down_rows", "conv_rows"])
def reduce_kernel(
    partial, weights, biases, channels, down_rows, conv_rows,
    KK: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """weights (slots, C, K·K) and biases (slots, C): sums of partial's rows, the first down_rows for slot 0."""
    slot = tl.program_id(1)
    size = (KK + 1) * channels
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    first = tl.where(slot == 0, 0, down_rows + (slot - 1) * conv_rows)
    count = tl.where(slot == 0, down_rows, conv_rows)
    total = tl.zeros([ROWS, BLOCK], tl.float32)
    for start in range(0, count, ROWS):
        row = start + tl.arange(0, ROWS)
        mask = (row < count)[:, None] & (at < size)[None, :]
        total += tl.load(partial + (first + row).to(tl.int64)[:, None] * size + at[None, :], mask=mask, other=0.0)
    value = tl.sum(total, 0)
    tap = at // channels
    c = at % channels
    tl.store(weights + (slot * channels + c) * KK + tap, value, mask=tap < KK)
    tl.store(biases + slot * channels + c, value, mask=tap == KK)
