"""The operations of KIT.md section 4: parameters p (a dict) and inputs x (name -> Tensor) to name -> Tensor."""

from itertools import islice

from . import attention, backward, codes, models, packedfile, packing, pixels, products, rows, seeded, swin
from .floats import f32
from .tensors import Tensor, floats, matrix, tensor

ACCEPTED = {"accepted": Tensor("uint8", [1], [1])}


def like(x, values):
    return Tensor("float32", x.shape, values)


def optional(x, name):
    return x[name].nested() if name in x else None


def elementwise(f):
    return lambda p, x: {"y": like(x["x"], [f(v) for v in x["x"].values])}


def each_first(f):
    """f on each index of the first axis."""
    return lambda p, x: {"y": floats([f(row) for row in x["x"].nested()])}


def normalised(p, x):
    return {"x": floats(pixels.pixels_to_floats(x["u8"].nested(), map(float, p["mean"]), map(float, p["std"])))}


def patches(p, x):
    return {"rows": floats(models.patches(x["x"].nested(), p["patch_size"]))}


def weights(quantize):
    """Codes and alpha of w."""

    def operation(p, x):
        found, alpha = quantize(p, x["w"].nested())
        return {"codes": tensor("int8", found), "alpha": floats(alpha)}

    return operation


def ternarize(p, w):
    threshold = p["threshold"] if p["threshold"] == "optimal" else float(p["threshold"])
    return codes.ternarize(w, p["granularity"], threshold, p["scale"])


def planes_encode(p, x):
    return {"planes": tensor("uint64", packing.planes_encode(x["codes"].nested()))}


def planes_decode(p, x):
    return ACCEPTED | {"codes": matrix("int8", packing.planes_decode(x["planes"].nested(), p["k"]), p["k"])}


def base3_encode(p, x):
    return {"stream": tensor("uint8", packing.base3_encode(x["codes"].nested()))}


def base3_decode(p, x):
    return ACCEPTED | {"codes": matrix("int8", packing.base3_decode(x["stream"].values, p["n"], p["k"]), p["k"])}


def scale(p, x):
    ranges = products.group_ranges(x["x"].nested(), p["groups"])
    return {"s": floats([codes.scale_of(*bounds, p["bits"], p["quantizer"]) for bounds in ranges])}


def zero_point(p, x):
    ranges = products.group_ranges(x["x"].nested(), p["groups"])
    return {"zp": tensor("int32", [codes.zero_point(r[1], s, p["bits"]) for r, s in zip(ranges, x["s"].values)])}


def static_scale(p, x):
    s, zp = codes.scale_and_zero_point(x["range"].values, p["bits"], p["quantizer"])
    return {"s": floats([s]), "zp": tensor("int32", [zp])}


def of_codes(p, x, name, f):
    """f(row, s, zp, bits, quantizer) for each row, as int8 or uint8."""
    each = zip(x["x"].nested(), x["s"].values, x["zp"].values)
    return {name: tensor("int8" if name == "q" else "uint8", [f(*row, p["bits"], p["quantizer"]) for row in each])}


def act_mask(p, x):
    return of_codes(p, x, "mask", codes.activation_mask)


def weight_mask(p, x):
    clip = p.get("ste_clip")
    mask = [codes.latent_mask(row, None if clip is None else float.fromhex(clip)) for row in x["w"].nested()]
    return {"mask": tensor("uint8", mask)}


def weight_codes(p, x):
    """Codes [N][K] of either kind."""
    ternary = "planes" in x
    found = packing.planes_decode(x["planes"].nested(), p["k"]) if ternary else x["weight"].nested()
    products.check_length(len(found[0]), ternary)
    return found


def product(p, x):
    found = weight_codes(p, x)
    return {"acc": matrix("int32", products.product(x["q"].nested(), x["zp"].values, found), len(found))}


def rescale(p, x):
    return {"y": floats(products.rescale(x["acc"].nested(), x["s"].values, x["alpha"].values, optional(x, "bias")))}


def linear(p, x):
    found = weight_codes(p, x)
    products.check_correction(found, p["bits"], p["quantizer"])
    static = (x["s"].values[0], x["zp"].values[0]) if "s" in x else None
    layer = products.Linear(found, x["alpha"].values, optional(x, "bias"), p["bits"], static)
    traces = products.linear(layer, x["x"].nested(), p["quantizer"], p["groups"])
    return {name: tensor(models.dtype_of(name), y) for name, y in traces.items()}


def norm_rows(p, x):
    w, b, eps = x["weight"].values, x["bias"].values, f32(float(p["eps"]))
    return [rows.layernorm(row, w, b, eps) for row in x["x"].nested()]


def symmetric(p, x, y):
    """Symmetric codes of the rows y with the scales s."""
    return {"q": tensor("int8", [codes.encode(r, s, 0, p["bits"], "symmetric") for r, s in zip(y, x["s"].values)])}


def gelu_codes(p, x):
    return symmetric(p, x, [[rows.gelu(v) for v in row] for row in x["x"].nested()])


def softmax_codes(p, x):
    return {"q": tensor("int8", [attention.probability_codes(rows.softmax(row)) for row in x["x"].nested()])}


def prob_codes(p, x):
    return {"q": tensor("int8", [attention.probability_codes(row) for row in x["p"].nested()])}


def score(p, x):
    q, k, s_q, s_k = (x[name].nested() for name in ("q", "k", "s_q", "s_k"))
    return {"score": floats(attention.int8_score(q, k, s_q, s_k, optional(x, "bias"), optional(x, "mask")))}


def float_score(p, x):
    q, k = x["q"].nested(), x["k"].nested()
    return {"score": floats(attention.float_score(q, k, optional(x, "bias"), optional(x, "mask")))}


def context(p, x):
    return {"context": floats(attention.int8_context(*(x[name].nested() for name in ("p", "v", "s_v"))))}


def float_context(p, x):
    return {"context": floats(attention.float_context(x["p"].nested(), x["v"].nested()))}


def whole_attention(p, x):
    bias, mask = optional(x, "bias"), optional(x, "mask")
    traces = attention.attention(x["qkv"].nested(), p["heads"], p["attention"], bias, mask)
    return {name: tensor(models.dtype_of(name), y) for name, y in traces.items()}


def residual(p, x):
    branch = x["branch"].values
    if "gamma" in x:
        branch = [f32(v * g) for v, g in zip(branch, x["gamma"].values)]
    return {"y": like(x["skip"], [f32(v + w) for v, w in zip(x["skip"].values, branch)])}


def logits(p, x):
    return {"y": like(x["head"], models.mean_of_heads(x["head"].values, x["head_dist"].values))}


def predict(p, x):
    return {"index": tensor("int32", [models.predict(row) for row in x["logits"].nested()])}


def windows(p, x):
    return {"windows": floats([swin.to_windows(picture, p["window_size"], p["shift"]) for picture in x["x"].nested()])}


def windows_back(p, x):
    back = [swin.from_windows(w, p["window_size"], p["shift"], p["side"]) for w in x["windows"].nested()]
    return {"x": floats(back)}


def shift_mask(p, x):
    return {"mask": floats(swin.shift_mask(p["side"], p["window_size"], p["shift"]))}


def position_bias(p, x):
    return {"bias": floats(swin.position_bias(x["table"].nested(), p["window_size"]))}


def seeded_words(p, x):
    words = list(islice(seeded.words(int(p["seed"])), p["count"]))
    return {"words": tensor("uint64", words), "elements": floats([seeded.element(word) for word in words])}


def load(p, x):
    model = packedfile.load(bytes(x["file"].values))
    found = dict(model.tensors)
    for name, layer in model.linears.items():
        found[f"{name}.codes"] = tensor("int8", layer.codes)
        found[f"{name}.alpha"] = floats(layer.alpha)
    return ACCEPTED | found


def model_trace(p, x):
    """Every trace but `pixels`, which is an input."""
    traces = models.trace(packedfile.load(bytes(x["file"].values)), x["pixels"].nested())
    return {name: y for name, y in traces.items() if name != "pixels"}


def gradients(f, *names):
    """f of all inputs, its results under these names."""

    def operation(p, x):
        eps = {"eps": f32(float(p["eps"]))} if "eps" in p else {}
        found = f(**{name: y.nested() for name, y in x.items()}, **eps)
        return {name: floats(y) for name, y in zip(names, found if len(names) > 1 else [found])}

    return operation


OPERATIONS = {
    "exp": elementwise(rows.exp),
    "erf": elementwise(rows.erf),
    "gelu": elementwise(rows.gelu),
    "sum16": each_first(rows.sum16),
    "pixels": normalised,
    "patches": patches,
    "ternarize": weights(ternarize),
    "weight_int8": weights(lambda p, w: codes.weight_int8(w, p["granularity"])),
    "planes_encode": planes_encode,
    "planes_decode": planes_decode,
    "base3_encode": base3_encode,
    "base3_decode": base3_decode,
    "scale": scale,
    "zero_point": zero_point,
    "static_scale": static_scale,
    "codes": lambda p, x: of_codes(p, x, "q", codes.encode),
    "ternary_product": product,
    "int8_product": product,
    "rescale": rescale,
    "linear": linear,
    "layernorm": lambda p, x: {"y": floats(norm_rows(p, x))},
    "softmax": each_first(rows.softmax),
    "score": score,
    "prob_codes": prob_codes,
    "context": context,
    "float_score": float_score,
    "float_context": float_context,
    "attention": whole_attention,
    "residual": residual,
    "logits": logits,
    "predict": predict,
    "windows": windows,
    "windows_back": windows_back,
    "shift_mask": shift_mask,
    "position_bias": position_bias,
    "merging": each_first(swin.merge),
    "pool": each_first(swin.pool),
    "seeded": seeded_words,
    "act_mask": act_mask,
    "weight_mask": weight_mask,
    "layernorm_backward": gradients(backward.layernorm, "dx", "dweight", "dbias"),
    "softmax_backward": gradients(backward.softmax, "dx"),
    "gelu_backward": gradients(backward.gelu, "dx"),
    "linear_backward": gradients(backward.linear, "dx", "dw", "db"),
    "norm_codes": lambda p, x: symmetric(p, x, norm_rows(p, x)),
    "gelu_codes": gelu_codes,
    "softmax_codes": softmax_codes,
    "load": load,
    "model": model_trace,
}
