"""Sections 3 and 4: which parameters a configuration has, and which of them are linear layers."""

HEADS = ("head", "head_dist", "head.fc")


def sides(config):
    """Side of the map in each stage of a Swin."""
    found = [config["img_size"] // config["patch_size"]]
    while len(found) < len(config["depths"]):
        found.append(-(-found[-1] // 2))
    return found


def tokens_of(config):
    """Patches, and tokens before them, of a ViT."""
    return (config["img_size"] // config["patch_size"]) ** 2, 2 if config["distilled"] else 1


def norm(name, width):
    return [(f"{name}.weight", [width]), (f"{name}.bias", [width])]


def dense(name, n, k):
    return [(f"{name}.weight", [n, k]), (f"{name}.bias", [n])]


def mlp_width(width, config):
    return int(width * config["mlp_ratio"])


def block(name, width, config, table=None):
    """Parameters of a block; a Swin block starts with the table of position biases."""
    hidden = mlp_width(width, config)
    return [
        *([(f"{name}.attn.relative_position_bias_table", table)] if table else []),
        *norm(f"{name}.norm1", width),
        *dense(f"{name}.attn.qkv", 3 * width, width),
        *dense(f"{name}.attn.proj", width, width),
        *norm(f"{name}.norm2", width),
        *dense(f"{name}.mlp.fc1", hidden, width),
        *dense(f"{name}.mlp.fc2", width, hidden),
    ]


def patch_embedding(config):
    return dense("patch_embed.proj", config["embed_dim"], config["in_chans"] * config["patch_size"] ** 2)


def vit_parameters(config):
    c = config["embed_dim"]
    patches, prefix = tokens_of(config)
    found = [("cls_token", [1, 1, c])]
    found += [("dist_token", [1, 1, c])] if config["distilled"] else []
    found += [("pos_embed", [1, patches if config["no_embed_class"] else patches + prefix, c])]
    found += patch_embedding(config)
    for i in range(config["depth"]):
        found += block(f"blocks.{i}", c, config)
        found += [(f"blocks.{i}.{ls}.gamma", [c]) for ls in ("ls1", "ls2") if config["layer_scale"]]
    heads = ("head", "head_dist") if config["distilled"] else ("head",)
    return found + norm("norm", c) + [p for head in heads for p in dense(head, config["num_classes"], c)]


def swin_parameters(config):
    c = config["embed_dim"]
    found = patch_embedding(config) + norm("patch_embed.norm", c)
    for i, (side, depth, heads) in enumerate(zip(sides(config), config["depths"], config["num_heads"])):
        width, m = c * 2**i, min(side, config["window_size"])
        if i:
            found += norm(f"layers.{i}.downsample.norm", 2 * width)
            found += [(f"layers.{i}.downsample.reduction.weight", [width, 2 * width])]
        for j in range(depth):
            found += block(f"layers.{i}.blocks.{j}", width, config, [(2 * m - 1) ** 2, heads])
    return found + norm("norm", width) + dense("head.fc", config["num_classes"], width)


def parameters(config):
    """(name, shape) of every parameter in the order of section 5; a linear weight is a matrix [N, K]."""
    return vit_parameters(config) if config["family"] == "vit" else swin_parameters(config)


def linear_layers(config):
    """Name -> [N, K]."""
    return {
        name.removesuffix(".weight"): shape
        for name, shape in parameters(config)
        if name.endswith(".weight") and len(shape) == 2
    }


def bits_of(layer, quant):
    """Bits of the weights and of the input, by the layer's role."""
    if layer == "patch_embed.proj":
        return quant["patch_bits"], 8
    if layer in HEADS:
        return quant["head_bits"], 8
    return quant["weight_bits"], quant["act_bits"]
