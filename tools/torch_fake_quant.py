"""TerViT's quantizers as PyTorch layers, for training at ImageNet scale on GPUs: latent weights trained there come here.

Replace each ``nn.Linear`` by ``QuantLinear`` (and the attention product by ``quant_attention``), train, save the
``state_dict`` under timm's names, then:   refvit pack trained.pth -o trained.refvit.safetensors

Run as a script it shows that these layers give refvit's numbers: the same codes; for the same input, each layer's output
and gradient within float32 summation; whole-model logits and gradients, which differ by more, because a value next to a
rounding tie falls to the other code now and then; and, after a training step in PyTorch, the packed integers' logits.
Needs torch 2.13.0 (CPU will do) and refvit in one environment.

    python tools/torch_fake_quant.py deit.safetensors -o trained.pth
    python tools/torch_fake_quant.py                              # a seeded narrow model, nothing is written
"""

import argparse
import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import refvit


class StraightThrough(torch.autograd.Function):
    """Forward the rounded values, backward the gradient as it is (N13)."""

    @staticmethod
    def forward(ctx, latent, rounded):
        return rounded

    @staticmethod
    def backward(ctx, dy):
        return dy, None


def ternary_weight(w):
    """alpha T of each row: Delta = f32(0.7 mean|w|), alpha = f32(mean of |w| above Delta) (N3).  [N, K] -> [N, K]

    The sums are float64 here, not exactly rounded as in refvit: a row could differ where its 0.7 mean|w| or its alpha lies
    within 2^-53 of the middle between two float32 numbers; the script below counts the codes that do.
    """
    a = w.detach().abs()
    delta = (0.7 * a.double().mean(dim=1, keepdim=True)).float()
    mask = a > delta
    alpha = ((a.double() * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1)).float()
    return torch.sign(w.detach()) * mask * alpha


def int8_rows(x):
    """Symmetric 8-bit values with a scale for each row (N1, N4, N5).  [..., K] -> [..., K]"""
    s = x.detach().abs().amax(dim=-1, keepdim=True) / 127.0
    s = torch.where(s < 2.0**-126, torch.ones_like(s), s)
    return torch.clamp(torch.round(x.detach() / s), -127, 127) * s


class QuantLinear(nn.Linear):
    """A linear layer of latent float weights, ternary or 8-bit in the forward, 8-bit input with a scale per token."""

    def __init__(self, *args, weight_bits=2, **kwargs):
        super().__init__(*args, **kwargs)
        self.weight_bits = weight_bits

    def forward(self, x):
        rounded = ternary_weight(self.weight) if self.weight_bits == 2 else int8_rows(self.weight)
        w = StraightThrough.apply(self.weight, rounded)
        return F.linear(StraightThrough.apply(x, int8_rows(x)), w, self.bias)


def quant_attention(q, k, v):
    """softmax(q k^T / sqrt d) v; q, k, v at 8 bit for each image and head, probabilities with the scale 1/127 (N10)."""
    q, k, v = (StraightThrough.apply(t, int8_rows(t.flatten(2)).reshape(t.shape)) for t in (q, k, v))
    p = F.softmax(q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5, dim=-1)
    scale = torch.tensor(1.0) / torch.tensor(127.0)
    return StraightThrough.apply(p, torch.round(p.detach() / scale) * scale) @ v


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads, self.qkv, self.proj = heads, QuantLinear(dim, 3 * dim), QuantLinear(dim, dim)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = self.qkv(x).reshape(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(quant_attention(q, k, v).transpose(1, 2).reshape(b, t, c))


class Mlp(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.fc1, self.fc2 = QuantLinear(dim, hidden), QuantLinear(hidden, dim)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        d = config.embed_dim
        self.norm1, self.attn = nn.LayerNorm(d, config.norm_eps), Attention(d, config.num_heads)
        self.norm2, self.mlp = nn.LayerNorm(d, config.norm_eps), Mlp(d, config.hidden_dim)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    """The patch convolution as a linear layer of patches; its weight keeps the convolution's shape."""

    def __init__(self, config):
        super().__init__()
        self.proj = nn.Conv2d(config.in_chans, config.embed_dim, config.patch_size, config.patch_size)

    def forward(self, x):
        patches = F.unfold(x, self.proj.kernel_size, stride=self.proj.stride).transpose(1, 2)
        w = self.proj.weight.flatten(1)
        w = StraightThrough.apply(w, int8_rows(w))
        return F.linear(StraightThrough.apply(patches, int8_rows(patches)), w, self.proj.bias)


class DeiT(nn.Module):
    """A W2A8 DeiT with timm's parameter names."""

    def __init__(self, config):
        super().__init__()
        d = config.embed_dim
        self.cls_token = nn.Parameter(torch.zeros(1, 1, d))
        self.pos_embed = nn.Parameter(torch.zeros(1, config.num_patches + 1, d))
        self.patch_embed = PatchEmbed(config)
        self.blocks = nn.Sequential(*(Block(config) for _ in range(config.depth)))
        self.norm = nn.LayerNorm(d, config.norm_eps)
        self.head = QuantLinear(d, config.num_classes, weight_bits=8)

    def forward(self, x):
        x = self.patch_embed(x)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", nargs="?", help="a plain DeiT or ViT")
    parser.add_argument("-o", "--out", help="where the state_dict goes after one training step, a .pth file")
    args = parser.parse_args()
    if args.checkpoint:
        model = refvit.load_model(args.checkpoint)
    else:
        model = refvit.create_model("deit_tiny_patch16_224", num_classes=10, img_size=32, patch_size=4, depth=3)
    if model.config.family != "vit" or model.config.distilled or model.config.layer_scale:
        sys.exit("torch_fake_quant: a plain DeiT or ViT is needed")
    twin = DeiT(model.config)
    twin.load_state_dict({name: torch.tensor(value) for name, value in model.params.items()})
    x = np.random.default_rng(0).standard_normal((4, 3, *[model.config.img_size] * 2), np.float32)

    same_codes(twin, model)
    same_layers(twin, model, x)
    same_numbers(twin, model, x)
    optimizer = torch.optim.AdamW(twin.parameters(), lr=1e-4)
    F.cross_entropy(twin(torch.tensor(x)), torch.arange(4)).backward()
    optimizer.step()
    packed_numbers(twin, model, x)
    if args.out:
        torch.save(twin.state_dict(), args.out)
        print(f"wrote {args.out}; next: refvit pack {args.out} -o OUT")


def same_codes(twin, model):
    """Ternary codes and scales, layer by layer."""
    differ = total = 0
    for name, layer in twin.named_modules():
        if isinstance(layer, QuantLinear) and layer.weight_bits == 2:
            codes, alpha = refvit.ternarize(model.params[f"{name}.weight"])
            theirs = ternary_weight(layer.weight).numpy()
            differ += int((theirs != codes * alpha[:, None]).sum())
            total += codes.size
    print(f"ternary weights that differ: {differ} of {total}")


def same_layers(twin, model, x):
    """Each layer on the input that refvit's has: output, and gradient of the latent weights."""
    q, trace = model.with_quant(refvit.QuantConfig()), {}
    q.forward(x, trace=trace)
    outputs, gradients = [], []
    for name, layer in twin.named_modules():
        if isinstance(layer, QuantLinear):
            run = refvit.passes.Pass(q)
            y, cache = run.linear(name, trace[f"{name}.in"])
            dy = np.random.default_rng(2).standard_normal(y.shape, np.float32)
            run.linear_backward(dy, cache)
            theirs = layer(torch.tensor(trace[f"{name}.in"]))
            theirs.backward(torch.tensor(dy))
            outputs.append(relative(theirs.detach().numpy(), y))
            gradients.append(relative(layer.weight.grad.numpy(), run.grads[f"{name}.weight"]))
    twin.zero_grad()
    print(f"layers on the same input: relative difference of outputs {max(outputs):.1e}, of gradients {max(gradients):.1e}")


def relative(theirs, ours):
    """||theirs - ours|| / ||ours||"""
    return float(np.linalg.norm(theirs - ours) / max(np.linalg.norm(ours), 1e-20))


def same_numbers(twin, model, x):
    """Logits and gradients of the fake-quantized models, for one upstream gradient."""
    q = model.with_quant(refvit.QuantConfig())
    logits, cache = q.forward(x)
    dy = np.random.default_rng(1).standard_normal(logits.shape, np.float32)
    _, grads = q.backward(dy, cache)
    theirs = twin(torch.tensor(x))
    theirs.backward(torch.tensor(dy))
    print(f"logits: largest difference {np.abs(theirs.detach().numpy() - logits).max():.2e} of {np.abs(logits).max():.2f}")
    worst = max((relative(p.grad.numpy(), grads[n]), n) for n, p in twin.named_parameters())
    print(f"gradients: largest relative difference {worst[0]:.2e}, in {worst[1]}")
    twin.zero_grad()


def packed_numbers(twin, model, x):
    """After training in PyTorch: refvit's integers on the same latent weights."""
    params = {name: value.detach().numpy().copy() for name, value in twin.state_dict().items()}
    params = {name: params[name] for name in model.params}
    engine = refvit.pack(refvit.Model(model.config, params).with_quant(refvit.QuantConfig()))
    with torch.no_grad():
        theirs = twin(torch.tensor(x)).numpy()
    ours = engine(x)
    agree = int((ours.argmax(1) == theirs.argmax(1)).sum())
    print(f"packed: largest difference {np.abs(ours - theirs).max():.2e}; the same class for {agree} of {len(x)} pictures")


if __name__ == "__main__":
    main()
