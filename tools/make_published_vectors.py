"""Make tests/vectors/published/: what TernaryBERT and BitNet b1.58 quantize to, and checkpoints in BitNet's layout.

    python3 -m venv torchvenv && torchvenv/bin/pip install torch==2.13.0 transformers safetensors numpy cffi pillow
    PYTHONPATH=. TORCH_COMPILE_DISABLE=1 torchvenv/bin/python tools/make_published_vectors.py

quantizers.safetensors, the formulas of the papers and of the released code, written anew, in PyTorch's float32:
    w, small, ties                      float32 [12, 40] weights; of mean|w| below 1e-5; with |w| = mean|w| / 2 at times
    NAME/twn/GRANULARITY                weights as TernaryBERT (arXiv 2009.12812) has them: alpha T; "layer", "channel"
    NAME/absmean/codes, /scale          BitNet b1.58 (arXiv 2402.17764) as transformers computes it: int8, float32 [1]
    NAME/paper/codes                    as the paper writes it: W / (gamma + eps), eps = 1e-5
    x, grid                             float32 [6, 40] activations; grid: zero lies on TernaryBERT's min-max grid
    NAME/bitnet/codes, /scale           8 bits for each token: int8 [6, 40], float32 [6], code = rint(x scale)
    NAME/symmetric/codes, /scale        TernaryBERT, one scale for the tensor: int8 [6, 40], float32 [1], rint(x scale)
    NAME/minmax/codes                   TernaryBERT's min-max for each token: uint8 [6, 40], steps above the minimum
LINEAR_CLASS/: a narrow ViT whose linear layers are packed as transformers does it ("bitlinear" and "autobitlinear"):
    config.json, model.safetensors      as ``save_pretrained`` names things
    layers.safetensors                  NAME/x [T, K], NAME/y [T, N]: float32, what went into a packed layer and came out
"""

import json
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import save
from transformers.integrations import bitnet

OUT = Path(__file__).parents[1] / "tests" / "vectors" / "published"
EPS = 1e-5


def main():
    torch.set_num_threads(1)  # one order of summation
    rng = np.random.Generator(np.random.PCG64(5))
    write(OUT / "quantizers.safetensors", quantizers(rng))
    for linear_class in ("bitlinear", "autobitlinear"):
        folder = OUT / linear_class
        folder.mkdir(exist_ok=True)
        torch.manual_seed(7)
        config, state, layers = packed_vit(linear_class)
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
        write(folder / "model.safetensors", state)
        write(folder / "layers.safetensors", layers)


def write(path, tensors):
    path.write_bytes(save({name: value.clone().contiguous() for name, value in tensors.items()}))
    print(f"{path.relative_to(OUT)}: {len(tensors)} tensors, {path.stat().st_size} bytes")


def quantizers(rng):
    w = torch.tensor(rng.normal(0.0, 0.04, (12, 40)).astype(np.float32))
    halves = rng.permuted(np.repeat([-3.0, -1.0, 1.0, 2.0, 3.0], 96)).reshape(12, 40)
    ties = torch.tensor(halves.astype(np.float32) / 64)
    x = torch.tensor(rng.normal(0.0, 0.7, (6, 40)).astype(np.float32))
    grid = torch.tensor(rng.uniform(-51, 204, (6, 40)).astype(np.float32))
    grid[:, 0], grid[:, 1] = -51.0, 204.0
    found = {"w": w, "small": w * 1e-5, "ties": ties, "x": x.clamp(-2.5, 2.5), "grid": grid / 128}
    for name in ("w", "small", "ties"):
        found[f"{name}/twn/layer"] = twn(found[name].reshape(1, -1)).reshape(w.shape)
        found[f"{name}/twn/channel"] = twn(found[name])
        found[f"{name}/absmean/codes"], found[f"{name}/absmean/scale"] = absmean(found[name])
        gamma = found[name].abs().mean()
        found[f"{name}/paper/codes"] = (found[name] / (gamma + EPS)).round().clamp(-1, 1).to(torch.int8)
    for name in ("x", "grid"):
        rows = found[name]
        found[f"{name}/bitnet/codes"], found[f"{name}/bitnet/scale"] = absmax(rows, 127 / row_max(rows).clamp(min=EPS))
        found[f"{name}/symmetric/codes"], scale = absmax(rows, 127 / rows.abs().max().reshape(1, 1))
        found[f"{name}/symmetric/scale"] = scale
        low, width = rows.amin(1, keepdim=True), rows.amax(1, keepdim=True) - rows.amin(1, keepdim=True) + 1e-8
        found[f"{name}/minmax/codes"] = ((rows - low) / width * 255).round().to(torch.uint8)
    return found


def twn(w):
    """alpha T of each row: alpha the mean of |w| above 0.7 mean|w|.  [N, K] -> [N, K]"""
    delta = 0.7 * (w.norm(p=1, dim=1, keepdim=True) / w.shape[1])
    mask = (w.abs() > delta).float()
    alpha = (w.abs() * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
    return alpha * mask * w.sign()


def absmean(w):
    """-> codes int8 [N, K], scale [1]: w is about codes / scale"""
    scale = 1.0 / w.abs().mean().clamp(min=EPS)
    return (w * scale).round().clamp(-1, 1).to(torch.int8), scale.reshape(1)


def row_max(x):
    return x.abs().amax(1, keepdim=True)


def absmax(x, scale):
    return (x * scale).round().clamp(-128, 127).to(torch.int8), scale.reshape(-1)


def packed_vit(linear_class):
    """-> config.json, tensors of the checkpoint, inputs and outputs of its packed layers"""
    config = transformers.ViTConfig(
        image_size=16, patch_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        num_labels=3,
    )  # fmt: skip
    model = transformers.ViTForImageClassification(config).eval()
    latent = {name: torch.randn_like(p) * 0.3 for name, p in model.named_parameters()}
    model.load_state_dict(latent)
    quant = transformers.BitNetQuantConfig(modules_to_not_convert=["classifier"], linear_class=linear_class)
    model = bitnet.replace_with_bitnet_linear(model, quant.modules_to_not_convert, quant)
    stored, layers = {}, {}
    for name, module in model.named_modules():
        if isinstance(module, (bitnet.BitLinear, bitnet.AutoBitLinear)):
            module.to_empty(device="cpu")
            stored |= fill(name, module, latent)
            module.register_forward_hook(lambda _, inputs, y, name=name: layers.update(record(name, inputs[0], y)))
    with torch.no_grad():
        model(torch.randn(1, 3, 16, 16))
    state = {name: value.detach() for name, value in model.state_dict().items()} | stored
    return {**config.to_dict(), "quantization_config": quant.to_dict()}, state, layers


def fill(name, module, latent):
    """Give a quantized layer its codes and scale.  -> its tensors as a file has them"""
    codes, scale = absmean(latent[f"{name}.weight"])
    packed = bitnet.pack_weights(codes.clone())
    automatic = isinstance(module, bitnet.AutoBitLinear)
    with torch.no_grad():
        module.weight.copy_(bitnet.unpack_weights(packed, torch.float32) if automatic else packed)
        module.weight_scale.copy_(1 / scale if automatic else scale)
        module.bias.copy_(latent[f"{name}.bias"])
    return {f"{name}.weight": packed, f"{name}.weight_scale": module.weight_scale.clone()}


def record(name, x, y):
    return {f"{name}/x": x.reshape(-1, x.shape[-1]), f"{name}/y": y.reshape(-1, y.shape[-1])}


if __name__ == "__main__":
    main()
