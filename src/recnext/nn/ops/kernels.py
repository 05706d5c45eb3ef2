"""Triton kernels of the forward pass: one launch a convolution, in channels_last, float32 inside.

A program owns BC channels of BP strips. A strip is R columns of a run of rows of one image; the program walks
down its rows, loads R + K - 1 columns of each once, and adds them into the K rows of outputs that they touch, so
that K·R outputs a lane live in registers and an element is loaded (R + K - 1) / R times instead of K².

`w` holds K·K + 1 rows of C floats, taps then bias. Sizes stay runtime values; CDIV is a divisor of C that tells
the compiler how wide loads may be. All tensors are dense (N, H, W, C) in memory.
"""

import triton
import triton.language as tl

SIZES = ["images", "height", "width", "cq", "rows", "slot"]  # never specialised: one compilation for all sizes


@triton.jit
def items(images, height, width, channels, rows, R: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr, block):
    """Channels, and for each strip its image, first row, first column and whether it exists."""
    strips = tl.cdiv(width, R)
    chunks = tl.cdiv(height, rows)
    channel_blocks = tl.cdiv(channels, BC)
    c = (block % channel_blocks) * BC + tl.arange(0, BC)
    item = (block // channel_blocks) * BP + tl.arange(0, BP)
    rest = item // strips
    n = rest // chunks
    return c, n, (rest % chunks) * rows, (item % strips) * R, n < images


@triton.jit
def taps(w, c, channels, first, COUNT: tl.constexpr):
    """COUNT rows of w as a tuple of (1, BC) float32."""
    values = ()
    for i in tl.static_range(COUNT):
        values = values + (tl.load(w + (first + i) * channels + c, mask=c < channels, other=0.0)[None, :],)
    return values


@triton.jit
def columns(base, row, col0, width, channels, ok, cmask, FIRST: tl.constexpr, COUNT: tl.constexpr):
    """Columns col0 + FIRST .. of one row as a tuple of (BP, BC) float32, zero outside the map."""
    values = ()
    for j in tl.static_range(COUNT):
        col = col0 + (j + FIRST)
        mask = (ok & (col >= 0) & (col < width))[:, None] & cmask
        v = tl.load(base + ((row * width + col) * channels)[:, None], mask=mask, other=0.0)
        values = values + (v.to(tl.float32),)
    return values


@triton.jit
def resized(
    y, row, col0, height, width, channels, ok, cmask, MODE: tl.constexpr, FIRST: tl.constexpr, COUNT: tl.constexpr
):
    """Columns col0 + FIRST .. of one row of y resized to (height, width); y is half of that, rounded up.

    MODE 1 nearest; 2 bilinear to an even width, where columns mix by quarters; 3 bilinear to any width.
    Zero outside the map. col0 is even.
    """
    uh = (height + 1) // 2
    uw = (width + 1) // 2
    values = ()
    if MODE == 1:  # ceil(n / 2) to n: the source is always half the position
        y_row = row // 2
        for j in tl.static_range(COUNT):
            col = col0 + (j + FIRST)
            mask = (ok & (col >= 0) & (col < width))[:, None] & cmask
            values = values + (tl.load(y + ((y_row * uw + col // 2) * channels)[:, None], mask=mask, other=0.0),)
    else:
        at = tl.maximum((row.to(tl.float32) + 0.5) * (uh.to(tl.float32) / height.to(tl.float32)) - 0.5, 0.0)
        above = tl.minimum(at.to(tl.int32), uh - 1)
        below = tl.minimum(above + 1, uh - 1)
        share = at - above.to(tl.float32)
        share_above = tl.where(ok, 1.0 - share, 0.0)[:, None]
        share_below = tl.where(ok, share, 0.0)[:, None]
        mask = ok[:, None] & cmask
        above = above * uw
        below = below * uw
        if MODE == 2:
            LEFT: tl.constexpr = FIRST // 2 - (1 - FIRST % 2)  # first coarse column that is read
            LAST: tl.constexpr = (FIRST + COUNT - 1) // 2 + (FIRST + COUNT - 1) % 2
            coarse = ()
            for e in tl.static_range(LAST - LEFT + 1):
                u = tl.minimum(tl.maximum(col0 // 2 + (e + LEFT), 0), uw - 1)
                a = tl.load(y + ((above + u) * channels)[:, None], mask=mask, other=0.0)
                b = tl.load(y + ((below + u) * channels)[:, None], mask=mask, other=0.0)
                coarse = coarse + (share_above * a + share_below * b,)
            for j in tl.static_range(COUNT):
                near = coarse[(j + FIRST) // 2 - LEFT]
                far = coarse[(j + FIRST) // 2 - LEFT - 1 + 2 * ((j + FIRST) % 2)]
                col = col0 + (j + FIRST)
                inside = ((col >= 0) & (col < width)).to(tl.float32)[:, None]
                values = values + ((0.75 * near + 0.25 * far) * inside,)
        else:
            for j in tl.static_range(COUNT):
                col = col0 + (j + FIRST)
                inside = (col >= 0) & (col < width)
                at = tl.maximum((col.to(tl.float32) + 0.5) * (uw.to(tl.float32) / width.to(tl.float32)) - 0.5, 0.0)
                left = tl.minimum(at.to(tl.int32), uw - 1)
                right = tl.minimum(left + 1, uw - 1)
                share = at - left.to(tl.float32)
                seen = mask & inside[:, None]
                a = tl.load(y + ((above + left) * channels)[:, None], mask=seen, other=0.0)
                b = tl.load(y + ((below + left) * channels)[:, None], mask=seen, other=0.0)
                c = tl.load(y + ((above + right) * channels)[:, None], mask=seen, other=0.0)
                d = tl.load(y + ((below + right) * channels)[:, None], mask=seen, other=0.0)
                one = share_above * a + share_below * b
                other = share_above * c + share_below * d
                values = values + (one + share[:, None] * (other - one),)
    return values


@triton.jit
def summed(
    f, y, row, col0, height, width, channels, ok, cmask, MODE: tl.constexpr, FIRST: tl.constexpr, COUNT: tl.constexpr
):
    """Columns of one row of z = f + resize(y); MODE 0 is z = f."""
    z = columns(f, row, col0, width, channels, ok, cmask, FIRST, COUNT)
    if MODE != 0:
        u = resized(y, row, col0, height, width, channels, ok, cmask, MODE, FIRST, COUNT)
        both = ()
        for j in tl.static_range(COUNT):
            both = both + (z[j] + u[j],)
        z = both
    return z


@triton.jit
def same(value, COUNT: tl.constexpr):
    """A tuple of COUNT times the value."""
    values = ()
    for _ in tl.static_range(COUNT):
        values = values + (value,)
    return values


@triton.jit(do_not_specialize=SIZES)
def conv_kernel(
    f, y, w, out, images, height, width, cq, rows, slot,
    CDIV: tl.constexpr, K: tl.constexpr, MODE: tl.constexpr, R: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """out = conv(f + resize(y)): stride 1, "same" padding."""
    PAD: tl.constexpr = K // 2
    channels = cq * CDIV
    c, n, row0, col0, live = items(images, height, width, channels, rows, R, BP, BC, tl.program_id(0))
    cmask = (c < channels)[None, :]
    f += (n.to(tl.int64) * height * width * channels)[:, None] + c[None, :]
    out += (n.to(tl.int64) * height * width * channels)[:, None] + c[None, :]
    uh = (height + 1) // 2
    uw = (width + 1) // 2
    y += (n.to(tl.int64) * uh * uw * channels)[:, None] + c[None, :]
    w += slot * (K * K + 1) * channels
    weight = taps(w, c, channels, 0, K * K)
    bias = tl.zeros([BP, BC], tl.float32) + tl.load(w + K * K * channels + c, mask=c < channels, other=0.0)[None, :]
    acc = same(bias, K * R)  # the output rows that input row `row` touches: row - PAD .. row + PAD
    start = tl.maximum(row0 - PAD, 0)
    stop = tl.minimum(row0 + rows, height)
    for step in range(tl.minimum(rows + 2 * PAD, height + PAD)):
        row = start + step
        ok = live & (row < height)
        z = summed(f, y, row, col0, height, width, channels, ok, cmask, MODE, -PAD, R + K - 1)
        sums = ()
        for q in tl.static_range(K):
            for r in tl.static_range(R):
                a = acc[q * R + r]
                for kw in tl.static_range(K):
                    a += z[r + kw] * weight[(K - 1 - q) * K + kw]
                sums = sums + (a,)
        done = row - PAD
        ok = live & (done >= row0) & (done < stop)
        for r in tl.static_range(R):
            mask = (ok & (col0 + r < width))[:, None] & cmask
            value = sums[r].to(out.dtype.element_ty)
            tl.store(out + ((done * width + col0 + r) * channels)[:, None], value, mask=mask)
        acc = sums[R:] + same(bias, R)


@triton.jit(do_not_specialize=SIZES)
def down_kernel(
    f, w, out, images, height, width, cq, rows, slot,
    CDIV: tl.constexpr, K: tl.constexpr, R: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """out = conv(f) with stride 2; (height, width) are f's, rows counts rows of out."""
    PAD: tl.constexpr = K // 2
    LOW: tl.constexpr = -(PAD // 2)  # input rows 2m, 2m + 1 touch outputs m + LOW .. m + HIGH
    HIGH: tl.constexpr = (PAD + 1) // 2
    COUNT: tl.constexpr = HIGH - LOW + 1
    oh = (height + 1) // 2
    ow = (width + 1) // 2
    channels = cq * CDIV
    c, n, row0, col0, live = items(images, oh, ow, channels, rows, R, BP, BC, tl.program_id(0))
    cmask = (c < channels)[None, :]
    f += (n.to(tl.int64) * height * width * channels)[:, None] + c[None, :]
    out += (n.to(tl.int64) * oh * ow * channels)[:, None] + c[None, :]
    w += slot * (K * K + 1) * channels
    weight = taps(w, c, channels, 0, K * K)
    bias = tl.zeros([BP, BC], tl.float32) + tl.load(w + K * K * channels + c, mask=c < channels, other=0.0)[None, :]
    acc = same(bias, COUNT * R)
    start = tl.maximum(row0 - HIGH, 0)
    stop = tl.minimum(row0 + rows, oh)
    for step in range(tl.minimum(rows + COUNT - 1, oh - LOW)):
        for odd in tl.static_range(2):
            row = 2 * (start + step) + odd
            z = columns(f, row, 2 * col0, width, channels, live & (row < height), cmask, -PAD, 2 * R + K - 2)
            for d in tl.static_range(COUNT):
                if odd - 2 * (d + LOW) + PAD >= 0 and odd - 2 * (d + LOW) + PAD < K:
                    sums = ()
                    for r in tl.static_range(R):
                        a = acc[d * R + r]
                        for kw in tl.static_range(K):
                            a += z[2 * r + kw] * weight[(odd - 2 * (d + LOW) + PAD) * K + kw]
                        sums = sums + (a,)
                    acc = acc[: d * R] + sums + acc[d * R + R :]
        done = start + step + LOW
        ok = live & (done >= row0) & (done < stop)
        for r in tl.static_range(R):
            mask = (ok & (col0 + r < ow))[:, None] & cmask
            value = acc[r].to(out.dtype.element_ty)
            tl.store(out + ((done * ow + col0 + r) * channels)[:, None], value, mask=mask)
        acc = acc[R:] + same(bias, R)


@triton.jit(do_not_specialize=["channels"])
def pack_kernel(
    w0, w1, w2, w3, w4, w5, w6, b0, b1, b2, b3, b4, b5, b6, out, channels,
    KK: tl.constexpr, DOWN_BIAS: tl.constexpr, BIAS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Weights (C, 1, K, K) and biases (C) of any dtype to out (slots, K·K + 1, C) in float32."""
    slot = tl.program_id(0)
    if slot == 0:
        _pack(w0, b0, out, 0, channels, KK, DOWN_BIAS, BLOCK)
    elif slot == 1:
        _pack(w1, b1, out, 1, channels, KK, BIAS, BLOCK)
    elif slot == 2:
        _pack(w2, b2, out, 2, channels, KK, BIAS, BLOCK)
    elif slot == 3:
        _pack(w3, b3, out, 3, channels, KK, BIAS, BLOCK)
    elif slot == 4:
        _pack(w4, b4, out, 4, channels, KK, BIAS, BLOCK)
    elif slot == 5:
        _pack(w5, b5, out, 5, channels, KK, BIAS, BLOCK)
    else:
        _pack(w6, b6, out, 6, channels, KK, BIAS, BLOCK)


@triton.jit
def _pack(w, b, out, slot, channels, KK: tl.constexpr, BIAS: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    c = at % channels
    tap = at // channels
    value = tl.load(w + c * KK + tap, mask=tap < KK, other=0.0).to(tl.float32)
    if BIAS:
        value += tl.load(b + c, mask=tap == KK, other=0.0).to(tl.float32)
    tl.store(out + slot * (KK + 1) * channels + at, value, mask=tap <= KK)
