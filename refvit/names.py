"""Parameter names in the wild -> timm's.

    timm          as they are, older spellings included
    facebook      DeiT: timm's; DeiT-III: ``gamma_1`` for ``ls1.gamma``
    Microsoft     Swin: ``layers.N.downsample`` stands at the end of a stage, timm's at the start of the next; ``head``
                  is timm's ``head.fc``
    Hugging Face  ViT, DeiT and Swin, as saved files and as the modules of transformers 5 name them;
                  query, key and value are apart, timm's ``qkv`` is them in this order
"""

import difflib
import itertools
import re

import numpy as np

from .errors import BadInputError

UNUSED = re.compile(r"(^|\.)(attn_mask|relative_position_index|mask_token)$|^pooler\.")  # buffers, other tasks' parts
HUGGING_FACE = "embeddings.patch_embeddings.projection.weight"  # marks a file as theirs
PREFIX = re.compile(r"^(vit|deit|swin)\.")
FROM_HUGGING_FACE = [
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.mask_token$", "mask_token"),
    (r"^embeddings\.distillation_token$", "dist_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.norm\.", "patch_embed.norm."),
    (r"^encoder\.layers\.(?=\d+\.(blocks|downsample)\.)", "layers."),
    (r"^(encoder\.layer|layers)\.(?=\d+\.(attention|layernorm|intermediate|output|mlp))", "blocks."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.((attention|self)\.query|q_proj)\.", ".attn.q."),
    (r"\.attention\.((attention|self)\.key|k_proj)\.", ".attn.k."),
    (r"\.attention\.((attention|self)\.value|v_proj)\.", ".attn.v."),
    (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.attention\.(self|relative_position_bias)\.(?=relative_position_)", ".attn."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"^layernorm\.", "norm."),
    (r"^(cls_)?classifier\.", "head."),
    (r"^distillation_classifier\.", "head_dist."),
]
FROM_FACEBOOK = [(r"\.gamma_([12])$", r".ls\1.gamma")]


def to_timm(where, tensors):
    """Rename and merge the tensors of a checkpoint.

    tensors  dict: name -> array
    Returns (dict: timm name -> array, dict: timm name -> name in the file, list of known but unused names,
    whether the names are Hugging Face's). Raises BadInputError where two tensors claim one name.
    """
    short = _stripped(tensors)
    hugging_face = HUGGING_FACE in short
    rules = [(re.compile(p), r) for p, r in (FROM_HUGGING_FACE if hugging_face else FROM_FACEBOOK)]
    is_swin = any(".attn.relative_position_bias_table" in n or ".relative_position_bias" in n for n in short)
    late_downsample = is_swin and any(re.match(r"(encoder\.)?layers\.0\.downsample\.", n) for n in short)

    renamed, sources, unused = {}, {}, []
    for name, source in short.items():
        for pattern, replacement in rules:
            name = pattern.sub(replacement, name)
        if is_swin:
            name = _swin_name(name, late_downsample)
        if UNUSED.search(name):
            unused.append(source)
            continue
        if name in renamed:
            both = f"tensors {sources[name]!r} and {source!r}"
            raise BadInputError(where, both, "different parameters", f"both {name!r}")
        renamed[name], sources[name] = tensors[source], source
    if hugging_face:
        _merge_qkv(renamed, sources)
        _complete_distilled(renamed, sources)
    return renamed, sources, unused, hugging_face


def nearest(name, names):
    """" (nearest: ...)" of the most similar of ``names``, or "" where none is similar."""
    candidates = itertools.islice((n for n in names if len(n) < 200), 2000)  # comparing takes quadratic time
    near = difflib.get_close_matches(name[:200], candidates, 1)
    return f" (nearest: {near[0]!r})" if near else ""


def _stripped(tensors):
    """Name without DataParallel's and Hugging Face's prefixes -> name in the file."""
    names = {name: name for name in tensors}
    if names and all(name.startswith("module.") for name in names):
        names = {name[len("module.") :]: source for name, source in names.items()}
    short = {PREFIX.sub("", name): source for name, source in names.items()}
    return short if len(short) == len(names) and HUGGING_FACE in short else names


def _swin_name(name, late_downsample):
    if late_downsample:  # the end of stage N is the start of stage N + 1
        name = re.sub(r"^layers\.(\d{1,9})\.downsample\.", lambda m: f"layers.{int(m[1]) + 1}.downsample.", name)
    return re.sub(r"^head\.(?=weight$|bias$)", "head.fc.", name)


def _merge_qkv(renamed, sources):
    """Query, key and value -> rows of qkv, in this order."""
    for name in [n for n in renamed if re.search(r"\.attn\.q\.(weight|bias)$", n)]:
        parts = [re.sub(r"\.q\.(?=\w+$)", f".{part}.", name) for part in "qkv"]
        arrays = [renamed.get(part) for part in parts]
        if all(a is not None and a.ndim and a.shape[1:] == arrays[0].shape[1:] for a in arrays):
            merged = name.replace(".attn.q.", ".attn.qkv.")
            renamed[merged] = np.concatenate(arrays)
            sources[merged] = sources[name]
            for part in parts:
                del renamed[part], sources[part]


def _complete_distilled(renamed, sources):
    """Hugging Face's DeiT with a distillation token and a single head classifies by the class token alone.

    Two heads whose mean counts (N11) say the same, exactly: twice the head, and a head of zeros.
    """
    if "dist_token" not in renamed or "head_dist.weight" in renamed:
        return
    for name in [n for n in ("head.weight", "head.bias") if n in renamed]:
        head, distilled = renamed[name].astype(np.float32), name.replace("head", "head_dist")
        renamed[name], renamed[distilled] = head + head, np.zeros_like(head)
        sources[distilled] = sources[name]
