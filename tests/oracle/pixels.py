"""N12: from bytes to the first tensor."""

from .floats import divide, f32


def pixel_values(mean, std):
    """What each of the 256 bytes becomes, for each channel; mean and std are as decimal numbers give them."""
    return [[f32(divide(f32(f32(u / 255.0) - f32(m)), f32(s))) for u in range(256)] for m, s in zip(mean, std)]


def pixels_to_floats(pixels, mean, std):
    """uint8 [S][S][3] -> [3][S][S]."""
    return [[[table[token[c]] for token in row] for row in pixels] for c, table in enumerate(pixel_values(mean, std))]
