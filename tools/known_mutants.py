"""Mutants that change nothing that can be seen: (file, line of code, old, new): why."""

DIGITS = "a double, or the middle between two, has at most 767 digits: some more or fewer than 800 are as good"
ROOM = "a larger buffer"
SLOWER = "another variant, slower, of the same bits"
TRUE = "any number but 0 is true"

KNOWN = {
    ("csrc/forward/units.c", "return a < b ? a : b;", "<", "<="): "of two equal numbers either is the smaller",
    ("csrc/rows/quantize.c", "low = x[j] < low && x[j] >= -FLT_MAX ? x[j] : low;", "<", "<="): "an equal value; the sign of 0 is not seen",
    ("csrc/rows/quantize.c", "high = x[j] > high && x[j] <= FLT_MAX ? x[j] : high;", ">", ">="): "an equal value; the sign of 0 is not seen",
    ("csrc/rows/codes.h", "return v < high ? v : high;", "<", "<="): "an equal value; a code has no sign of 0",
    ("csrc/rows/codes.h", "v = v > low ? v : low;", ">", ">="): "an equal value; a code has no sign of 0",
    ("csrc/products/popcount.c", "if (backend >= REFVIT_AVX512)", ">=", ">"): SLOWER,
    ("csrc/products/popcount.c", "if (backend >= REFVIT_AVX2)", ">=", ">"): SLOWER,
    ("csrc/products/popcount.c", "for (size_t i = 0; i < m; i += GROUP) {", "<", "<="): "a group of no rows",
    ("csrc/rows/steps.c", "if (backend >= REFVIT_AVX512VNNI)", ">=", ">"): SLOWER,
    ("csrc/rows/steps.c", "if (backend >= REFVIT_AVX2)", ">=", ">"): SLOWER,
    ("csrc/loader/tensors.c", "tensor->taken = 1;", "1", "2"): TRUE,
    ("csrc/loader/tensors.c", "for (size_t i = 0; i < count; i++)", "<", "<="):
        "a byte more, into room that is rounded up or filled later",
    ("refvit/quant.py", "return quantize_symmetric(w, s, 8), s", "8", "9"): "no code of finite weights is clipped",
    ("csrc/loader/settings.c", "float pixels[3 * 256];", "256", "257"): ROOM,
    ("csrc/loader/settings.c", "float pixels[3 * 256];", "3", "4"): ROOM,
    ("csrc/loader/json.c", "if (!json_peek(j) || (size_t)(j->end - j->at) < length || memcmp(j->at, word, length))", "||", "&&"):
        "a word that goes on behind the end is refused at the end",
    ("csrc/loader/json.c", "char decoded[256];", "256", "257"): "257 bytes stand for at least 42 characters, more than any name has",
    ("csrc/loader/json.c", "return raw.length <= sizeof decoded && json_decode(raw, decoded) == strlen(plain) && !memcmp(decoded, plain, strlen(plain));",
     "<=", "<"): "256 bytes stand for at least 42 characters, more than any name has",
    ("csrc/loader/decimal.c", "#define KEPT 800       /* digits: a double, or the middle between two, has at most 767 significant ones */",
     "800", "801"): DIGITS,
    ("csrc/loader/decimal.c", "if (used - first < KEPT) {", "<", "<="): DIGITS,
    ("csrc/loader/decimal.c", "if (used - first < KEPT) {", "-", "+"): DIGITS,
    ("csrc/loader/decimal.c", "char buffer[KEPT + 16];", "16", "17"): ROOM,
    ("csrc/loader/decimal.c", 'snprintf(buffer + used, sizeof buffer - used, "e%d", (int)exponent);', "-", "+"): "what is printed has room anyway",
    ("csrc/loader/decimal.c", "#define EXPONENT 20000 /* beyond it the value is 0 or infinite, whatever the digits */", "20000", "20001"):
        "so is it beyond 1200",
    ("csrc/loader/decimal.c", "stated = clamp(stated * 10 + (*at - '0'), (int64_t)1 << 40);", "40", "41"): "both are beyond any header's digits",
    ("csrc/loader/decimal.c", "stated = clamp(stated * 10 + (*at - '0'), (int64_t)1 << 40);", "1", "2"): "both are beyond any header's digits",
    ("csrc/loader/sha256.c", "for (size_t i = 0; i < 8; i++)", "0", "1"): "the first byte of the length is 0 below 2^53 bytes",
    ("refvit/bitplanes.py", "codes = _BYTE_CODES[stream].reshape(-1)", "1", "2"): "NumPy takes any negative size for the one to find",
    ("refvit/packed.py", "if reach >= 1 << 31:", ">=", ">"): "2^31 is no multiple of 2^b - 1",
    ("refvit/ternary.py", "provably_exact = magnitude.max(axis=1).astype(np.float64) * k <= unit * 2.0**53", "<=", "<"): "fsum gives the same sum",
}  # fmt: skip
