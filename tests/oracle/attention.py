"""N10. Nested lists: x[b][w][t] is a row, q[b][w][h][t] a row of D numbers, scores [b][w][h][i][j], scales [b][h]."""

from math import sqrt

from .codes import encode, range_of, rint_clip, scale_and_zero_point
from .errors import Refused
from .floats import f32
from .products import K_MAX, dot
from .rows import float_product, softmax

MASK = -100.0
PROB_SCALE = f32(1.0 / 127.0)


def inverse_root(d):
    return f32(1.0 / sqrt(d))


def split_heads(qkv, heads):
    """q, k, v [B][W][H][T][D] of rows with 3 C numbers."""
    c = len(qkv[0][0][0]) // 3
    d = c // heads

    def part(p):
        return [
            [[[row[p * c + h * d : p * c + (h + 1) * d] for row in w] for h in range(heads)] for w in windows]
            for windows in qkv
        ]

    return part(0), part(1), part(2)


def quantize_heads(x):
    """Codes like x, and scales [B][H]: one for all windows of a picture and head."""
    s = [[head_scale([row for w in windows for row in w[h]]) for h in range(len(windows[0]))] for windows in x]
    return each_head(lambda b, w, h, rows: [encode(row, s[b][h], 0, 8, "symmetric") for row in rows], x), s


def head_scale(rows):
    return scale_and_zero_point(range_of([v for row in rows for v in row]), 8, "symmetric")[0]


def each_head(f, *arrays):
    """f(b, w, h, *heads) for every picture, window and head of arrays [B][W][H]."""
    return [
        [[f(b, w, h, *heads) for h, heads in enumerate(zip(*windows))] for w, windows in enumerate(zip(*pictures))]
        for b, pictures in enumerate(zip(*arrays))
    ]


def biased(scores, h, w, bias, mask):
    """Scores [T][T] of head h and window w plus bias [H][T][T], then mask [W][T][T], where they exist."""
    if bias is not None:
        scores = [[f32(v + b) for v, b in zip(*pair)] for pair in zip(scores, bias[h])]
    if mask is not None:
        scores = [[f32(v + m) for v, m in zip(*pair)] for pair in zip(scores, mask[w])]
    return scores


def int8_score(q, k, s_q, s_k, bias=None, mask=None):
    root = inverse_root(len(q[0][0][0][0]))

    def head(b, w, h, q, k):
        rows = [[f32(f32(f32(float(dot(i, j))) * s_q[b][h]) * s_k[b][h]) for j in k] for i in q]
        return biased([[f32(v * root) for v in row] for row in rows], h, w, bias, mask)

    return each_head(head, q, k)


def float_score(q, k, bias=None, mask=None):
    root = inverse_root(len(q[0][0][0][0]))

    def head(b, w, h, q, k):
        return biased([[f32(float_product(i, j) * root) for j in k] for i in q], h, w, bias, mask)

    return each_head(head, q, k)


def probabilities(score):
    return each_head(lambda b, w, h, rows: [softmax(row) for row in rows], score)


def probability_codes(p):
    """Codes of one row."""
    return [rint_clip(f32(v / PROB_SCALE), 0, 127) for v in p]


def join_heads(x):
    """[B][W][H][T][D] -> [B][W][T][H D]."""
    return [[[[v for head in w for v in head[t]] for t in range(len(w[0]))] for w in windows] for windows in x]


def int8_context(p, v, s_v):
    if len(p[0][0][0][0]) >= K_MAX:
        raise Refused("a product of too many tokens")

    def head(b, w, h, p, v):
        columns = list(zip(*v))
        return [[f32(f32(f32(float(dot(row, column))) * PROB_SCALE) * s_v[b][h]) for column in columns] for row in p]

    return join_heads(each_head(head, p, v))


def float_context(p, v):
    return join_heads(each_head(lambda b, w, h, p, v: [[float_product(row, c) for c in zip(*v)] for row in p], p, v))


def attention(qkv, heads, kind, bias=None, mask=None):
    """The traces between the two linear layers, by the last parts of their names."""
    q, k, v = split_heads(qkv, heads)
    if kind == "float":
        score = float_score(q, k, bias, mask)
        prob = probabilities(score)
        return {"score": score, "prob": prob, "context": float_context(prob, v)}
    (q, s_q), (k, s_k), (v, s_v) = map(quantize_heads, (q, k, v))
    score = int8_score(q, k, s_q, s_k, bias, mask)
    prob = probabilities(score)
    q_prob = each_head(lambda b, w, h, rows: [probability_codes(row) for row in rows], prob)
    traces = {"q.s_in": s_q, "q.q_in": q, "k.s_in": s_k, "k.q_in": k, "v.s_in": s_v, "v.q_in": v}
    return traces | {"score": score, "prob": prob, "q_prob": q_prob, "context": int8_context(q_prob, v, s_v)}
