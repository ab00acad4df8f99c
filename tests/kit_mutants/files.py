"""Bugs in the reader of packed files (section 4 of SPEC.md): each a check that is forgotten or too weak."""

from .plant import Mutant


def forgotten(place, condition, weaker="False"):
    """A check whose condition never holds, or too rarely."""
    return Mutant(place, f"if {condition}:", f"if {weaker}:", "load")


CONTAINER = [
    forgotten("safetensors:_read_header", 'text[:1] != b"{" or text.rstrip(b" ")[-1:] != b"}"'),
    forgotten("safetensors:_read_header", 'text[:1] != b"{" or text.rstrip(b" ")[-1:] != b"}"', 'text[:1] != b"{"'),
    Mutant("safetensors:_read_header", "total - 8 - length", "max(total - 8 - length - 1, 0)", "load"),
    Mutant("safetensors:_read_header", 'file.read(8), "little"', 'file.read(8), "big"', "load"),
    forgotten("safetensors:_unique", "key in result"),
    forgotten("safetensors:_short_int", "len(digits) > DIGITS_MAX"),
    Mutant("safetensors:_no_constant", 'raise ValueError(f"{name} is not JSON")', "return float(name)", "load"),
    Mutant("safetensors:parse_json", 'text.decode("utf-8")', 'text.decode("latin-1")', "load"),
    forgotten("safetensors:_checked_metadata",
              "not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values())",
              "not isinstance(metadata, dict)"),
    forgotten("safetensors:_checked_entry",
              'not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}',
              'not isinstance(entry, dict) or not set(entry) >= {"dtype", "shape", "data_offsets"}'),
    forgotten("safetensors:_checked_entry", "expected != got"),
    Mutant("safetensors:_are_sizes", "type(v) is int and", "", "load"),
    forgotten("safetensors:_check_contiguous", "begin != position"),
    forgotten("safetensors:_check_contiguous", "begin != position", "begin < position"),
    forgotten("safetensors:_check_contiguous", "begin != position", "begin > position"),
    forgotten("safetensors:_check_contiguous", "position != size", "position > size"),
]  # fmt: skip

CONTENT = [
    forgotten("modelfile:load_packed", 'meta.get("sha256") != got'),
    forgotten("modelfile:load_packed", 'meta.get("sha256") != got', 'meta.get("sha256", got) != got'),
    forgotten("modelfile:load_packed", 'meta.get("sha256") != got', 'meta.get("sha256", "").lower() != got'),
    Mutant("modelfile:content_sha256", 'digest.update(f"{key}\\0{meta[key]}\\0".encode())', "pass", "load"),
    Mutant("modelfile:content_sha256", 'sorted(set(meta) - {"sha256"})', 'list(k for k in meta if k != "sha256")',
           "load"),
    Mutant("safetensors:in_file_order", "(-item[1].itemsize, item[0])", "item[0]", "load"),
    forgotten("modelfile:engine_from", 'meta.get("format") != FORMAT'),
    forgotten("modelfile:engine_from", "type(version) is not int or version != SPEC_VERSION"),
    forgotten("modelfile:engine_from", "type(version) is not int or version != SPEC_VERSION",
              "version != SPEC_VERSION"),
    forgotten("modelfile:engine_from", "tensors"),
    forgotten("modelfile:engine_from", "preprocess.img_size != config.img_size"),
    Mutant("modelfile:engine_from", "config.param_shapes().items():\n        if name",
           "config.param_shapes().items():\n        if name in tensors and name", "load"),
    forgotten("modelfile:take", "value.dtype != dtype or value.shape != shape", "value.shape != shape"),
    forgotten("modelfile:take", "value.dtype != dtype or value.shape != shape", "value.dtype != dtype"),
    forgotten("modelfile:take", 'value.dtype.kind == "f" and not np.isfinite(value).all()'),
    forgotten("modelfile:take", 'value.dtype.kind == "f" and not np.isfinite(value).all()',
              'value.dtype.kind == "f" and np.isnan(value).any()'),
    forgotten("modelfile:take_weight", "(codes == -128).any()"),
    forgotten("modelfile:take_static", "s[0] < SCALE_MIN or not low <= zp[0] <= high"),
    forgotten("modelfile:take_static", "s[0] < SCALE_MIN or not low <= zp[0] <= high",
              "s[0] < 0 or not low <= zp[0] <= high"),
    forgotten("modelfile:take_static", "s[0] < SCALE_MIN or not low <= zp[0] <= high",
              "s[0] < SCALE_MIN or zp[0] > high"),
    forgotten("modelfile:take_static", "s[0] < SCALE_MIN or not low <= zp[0] <= high",
              "s[0] < SCALE_MIN or zp[0] < low"),
    Mutant("modelfile:take_static", '(0, 0) if quantizer == "symmetric" else code_range(act_bits, quantizer)',
           'code_range(act_bits, "minmax")', "load"),
    Mutant("modelfile:take_linear", "check_linear(linear, quant)", "pass", "load"),
    Mutant("modelfile:take_linear", 'if f"{name}.bias" in shapes else None', 'if f"{name}.bias" in tensors else None',
           "load"),
    Mutant("modelfile:take_linear", 'take(tensors, f"{name}.weight.alpha", np.float32, (n,))',
           'np.abs(take(tensors, f"{name}.weight.alpha", np.float32, (n,)))', "load"),
    Mutant("labels:check_labels", "len(labels) == num_classes", "True", "load"),
    Mutant("labels:check_labels", "all(_is_text(n) for n in labels)", "True", "load"),
    Mutant("labels:check_labels", "stored == IMAGENET", "isinstance(stored, str)", "load"),
]  # fmt: skip

CONFIGURATION = [
    Mutant("config:config_from_dict", "not isinstance(family, str) or family not in families", "family is None",
           "load"),
    forgotten("config:dataclass_from_dict", "not isinstance(fields, dict) or set(fields) != names",
              "not isinstance(fields, dict) or not set(fields) >= names"),
    forgotten("config:_check_types", "type(value) not in accepted"),
    forgotten("config:_check_types", "type(value) not in accepted", "not isinstance(value, accepted)"),
    forgotten("config:_check_common", "config.img_size % config.patch_size"),
    forgotten("config:_check_common", "(config.embed_dim << i) % n"),
    forgotten("config:_check_common", "not 0 < config.norm_eps < 1"),
    forgotten("config:_check_common", "not 0 < config.norm_eps < 1", "not 0 <= config.norm_eps < 1"),
    forgotten("config:_check_common",
              "not 1 <= config.embed_dim * config.mlp_ratio <= config.embed_dim * _MLP_RATIO_LIMIT"),
    forgotten("config:QuantConfig.__post_init__", "type(value) not in (int, str) or value not in allowed"),
    forgotten("config:QuantConfig.__post_init__", "type(value) not in (int, str) or value not in allowed",
              "value not in allowed"),
    forgotten("packed:packed_bits", "32 in (bits, act_bits)"),
    Mutant("preprocess:PreprocessConfig.__post_init__", "self.mode not in tuple(CROP_PCT)", "False", "load"),
    forgotten("preprocess:PreprocessConfig.from_dict", "not isinstance(values, dict) or set(values) != set(fields)",
              "not isinstance(values, dict)"),
    forgotten("preprocess:_channels", 'field == "std" and min(values) <= 0'),
    Mutant("preprocess:_channels", "or len(values) != 3", "", "load"),
    Mutant("config:SwinConfig.stages", "(size + 1) // 2 if i else size", "size // 2 if i else size", "model"),
    Mutant("config:QuantConfig.layer_bits", "else 8)", "else self.act_bits)", "model"),
]  # fmt: skip

MUTANTS = CONTAINER + CONTENT + CONFIGURATION
