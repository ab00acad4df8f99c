"""N2: ternary codes as bit-planes and as base-3 digits. A matrix of codes is a list of rows."""

from .errors import Refused


def planes_encode(codes):
    """Planes [2][N][words]."""
    k = len(codes[0])
    words = -(-k // 64)


    def word(row, w, sign):
        return sum(1 << j for j, c in enumerate(row[64 * w : 64 * w + 64]) if c == sign)

    return [[[word(row, w, sign) for w in range(words)] for row in codes] for sign in (1, -1)]


def planes_decode(planes, k):
    if len(planes) != 2:
        raise Refused(f"{len(planes)} planes")
    return [decode_row(plus, minus, k) for plus, minus in zip(*planes)]


def decode_row(plus, minus, k):
    if len(plus) != -(-k // 64):
        raise Refused(f"{len(plus)} words for {k} codes")
    plus, minus = (sum(word << 64 * w for w, word in enumerate(words)) for words in (plus, minus))
    if plus & minus:
        raise Refused("a code has both bits set")
    if (plus | minus) >> k:
        raise Refused("a bit is set after the last code")
    return [(plus >> j & 1) - (minus >> j & 1) for j in range(k)]


def base3_encode(codes):
    digits = [c + 1 for row in codes for c in row]
    digits += [1] * (-len(digits) % 5)
    return [sum(digit * 3**i for i, digit in enumerate(digits[b : b + 5])) for b in range(0, len(digits), 5)]


def base3_decode(stream, n, k):
    if len(stream) != -(-n * k // 5):
        raise Refused(f"{len(stream)} bytes for {n * k} codes")
    if any(byte > 242 for byte in stream):
        raise Refused("a byte above 242")
    digits = [byte // 3**i % 3 for byte in stream for i in range(5)]
    if any(digit != 1 for digit in digits[n * k :]):
        raise Refused("a digit other than 1 after the last code")
    return [[digit - 1 for digit in digits[r * k : (r + 1) * k]] for r in range(n)]
