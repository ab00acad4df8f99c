"""Section 5: PCG64 as NumPy seeds it, and the elements of seeded models."""

from math import prod

from .floats import f32

M32, M64, M128 = 2**32 - 1, 2**64 - 1, 2**128 - 1
DEVIATION = float.fromhex("0x1.279a74586f649p+16")
STD = float.fromhex("0x1.47ae14p-6")


def digits_of(seed):
    """32-bit digits, lowest first, at least 4."""
    digits = []
    while seed or len(digits) < 4:
        digits.append(seed & M32)
        seed >>= 32
    return digits


def folded(x):
    return x ^ x >> 16


def pool_of(seed):
    """Four 32-bit numbers that depend on the whole seed."""
    a = 0x43B0D7E5

    def hashed(x):
        nonlocal a
        x ^= a
        a = a * 0x931E8875 & M32
        return folded(x * a & M32)

    def mixed(x, y):
        return folded(0xCA01F9DD * x - 0x4973F715 * y & M32)

    digits = digits_of(seed)
    pool = [hashed(digit) for digit in digits[:4]]
    for s in range(4):
        for d in range(4):
            if d != s:
                pool[d] = mixed(pool[d], hashed(pool[s]))
    for digit in digits[4:]:
        for d in range(4):
            pool[d] = mixed(pool[d], hashed(digit))
    return pool


def start_of(seed):
    """The generator's start and increment."""
    pool, b, g = pool_of(seed), 0x8B51F9DD, []
    for i in range(8):
        x = pool[i % 4] ^ b
        b = b * 0x58F38DED & M32
        g.append(folded(x * b & M32))
    w = [g[2 * j] + (g[2 * j + 1] << 32) for j in range(4)]
    return (w[0] << 64) + w[1], 2 * ((w[2] << 64) + w[3]) + 1 & M128


def words(seed):
    """The endless stream of 64-bit words."""
    start, inc = start_of(seed)
    state = inc + start & M128

    def step(state):
        return state * 0x2360ED051FC65DA44385DF649FCCF645 + inc & M128

    state = step(state)
    while True:
        state = step(state)
        x, turn = state >> 64 ^ state & M64, state >> 122
        yield (x >> turn | x << 64 - turn) & M64


def element(word):
    u = sum(word >> shift & 0xFFFF for shift in (0, 16, 32, 48))
    return f32(f32((2 * u - 262140) / DEVIATION) * STD)


def parameters(shapes, seed):
    """Flat lists by name, for (name, shape) in the order of section 5."""
    stream, found = words(seed), {}
    for name, shape in shapes:
        if name.endswith(".bias"):
            found[name] = [0.0] * prod(shape)
        elif len(shape) == 1:
            found[name] = [f32(0.1) if name.endswith(".gamma") else 1.0] * prod(shape)
        else:
            found[name] = [element(next(stream)) for _ in range(prod(shape))]
    return found
