"""Simple drawn scenes, for where no photographs are at hand: name -> picture of 256 x 256 pixels."""

import numpy as np
from PIL import Image, ImageDraw

SIZE = 256


def scenes():
    """name of what is drawn -> RGB picture, as Pillow has it"""
    return {draw.__name__: draw() for draw in (ship, airplane, automobile, truck, horse, frog, cat)}


def ground(top, bottom, horizon=SIZE, below=None):
    """A sky that shades from one colour to another down to the horizon, below it one colour.  -> picture, its pen"""
    rows = np.linspace(0, 1, SIZE)[:, None, None]
    pixels = np.float64(top) * (1 - rows) + np.float64(bottom) * rows
    image = Image.fromarray(np.broadcast_to(pixels, (SIZE, SIZE, 3)).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    if below is not None:
        pen.rectangle((0, horizon, SIZE, SIZE), fill=below)
    return image, pen


def ship():
    image, pen = ground((150, 180, 210), (215, 225, 230), 165, (45, 85, 120))
    pen.polygon([(20, 150), (240, 140), (215, 195), (50, 195)], fill=(50, 45, 55))
    pen.polygon([(46, 183), (220, 183), (215, 195), (50, 195)], fill=(140, 40, 35))
    pen.rectangle((70, 115, 185, 150), fill=(235, 235, 230))
    pen.rectangle((95, 90, 160, 115), fill=(220, 220, 215))
    pen.rectangle((120, 55, 145, 90), fill=(190, 60, 45))
    for x in range(80, 180, 20):
        pen.rectangle((x, 125, x + 9, 134), fill=(60, 80, 100))
    for y in range(205, 256, 14):
        pen.line((0, y, SIZE, y - 5), fill=(80, 120, 150), width=3)
    return image


def airplane():
    image, pen = ground((95, 150, 215), (185, 215, 240))
    pen.polygon([(120, 125), (150, 125), (205, 215), (180, 215)], fill=(165, 170, 178))
    pen.polygon([(128, 118), (152, 118), (185, 60), (168, 60)], fill=(190, 195, 200))
    pen.ellipse((20, 105, 225, 142), fill=(238, 240, 243))
    pen.polygon([(195, 118), (225, 60), (243, 60), (226, 125)], fill=(200, 50, 50))
    pen.polygon([(200, 125), (240, 105), (246, 112), (215, 135)], fill=(175, 180, 186))
    for x in range(60, 190, 14):
        pen.ellipse((x, 115, x + 6, 121), fill=(60, 75, 95))
    return image


def automobile():
    image, pen = ground((190, 205, 220), (225, 228, 230), 150, (105, 105, 108))
    pen.polygon([(70, 130), (95, 85), (175, 85), (205, 130)], fill=(165, 20, 25))
    pen.rounded_rectangle((20, 122, 238, 185), 20, fill=(190, 25, 30))
    pen.polygon([(82, 126), (101, 93), (132, 93), (132, 126)], fill=(40, 50, 60))
    pen.polygon([(140, 126), (140, 93), (170, 93), (190, 126)], fill=(40, 50, 60))
    pen.ellipse((22, 135, 42, 150), fill=(250, 240, 190))
    wheels(pen, 185, 27, (70, 190))
    return image


def truck():
    image, pen = ground((175, 200, 225), (220, 228, 232), 175, (120, 118, 112))
    pen.rectangle((85, 50, 245, 180), fill=(232, 232, 228))
    pen.polygon([(12, 185), (12, 125), (35, 85), (80, 85), (80, 185)], fill=(40, 80, 160))
    pen.polygon([(22, 122), (40, 93), (70, 93), (70, 122)], fill=(35, 45, 55))
    pen.rectangle((12, 178, 245, 195), fill=(50, 50, 52))
    wheels(pen, 198, 24, (48, 170, 222))
    return image


def wheels(pen, y, radius, places):
    for x in places:
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(20, 20, 22))
        pen.ellipse((x - radius // 2, y - radius // 2, x + radius // 2, y + radius // 2), fill=(170, 172, 175))


def horse():
    image, pen = ground((165, 195, 225), (205, 220, 225), 150, (95, 135, 60))
    brown, dark = (120, 70, 35), (55, 32, 18)
    for x, lean in ((85, -6), (108, 4), (170, -4), (192, 8)):
        pen.polygon([(x, 150), (x + 20, 150), (x + 12 + lean, 235), (x + 2 + lean, 235)], fill=brown)
    pen.ellipse((70, 95, 220, 168), fill=brown)
    pen.polygon([(75, 130), (48, 60), (78, 42), (125, 105)], fill=brown)
    pen.polygon([(75, 40), (82, 66), (25, 98), (14, 84), (50, 48)], fill=brown)
    pen.polygon([(60, 46), (66, 22), (76, 44)], fill=brown)
    pen.polygon([(72, 40), (84, 44), (130, 100), (112, 100)], fill=dark)
    pen.polygon([(208, 108), (236, 130), (238, 190), (222, 175), (214, 135)], fill=dark)
    return image


def frog():
    image, pen = ground((110, 100, 70), (75, 65, 45))
    green, light = (85, 140, 45), (165, 185, 105)
    pen.ellipse((15, 140, 110, 235), fill=(70, 118, 38))
    pen.ellipse((146, 140, 241, 235), fill=(70, 118, 38))
    pen.ellipse((50, 70, 206, 225), fill=green)
    pen.ellipse((75, 145, 181, 228), fill=light)
    for x in (62, 146):
        pen.ellipse((x, 45, x + 48, 93), fill=green)
        pen.ellipse((x + 8, 53, x + 40, 85), fill=(215, 175, 55))
        pen.ellipse((x + 18, 58, x + 31, 80), fill=(15, 15, 12))
    pen.arc((75, 85, 181, 150), 20, 160, fill=(45, 75, 25), width=5)
    return image


def cat():
    image, pen = ground((175, 155, 135), (135, 115, 100))
    fur, inner = (110, 100, 92), (200, 150, 145)
    pen.ellipse((50, 150, 206, 330), fill=(100, 90, 82))
    for a, b, c in ((48, 60, 112), (208, 196, 144)):
        pen.polygon([(a, 25), (b, 120), (c, 72)], fill=fur)
        pen.polygon([(a + (b - a) // 2, 48), ((a + b) // 2, 100), ((b + c) // 2, 78)], fill=inner)
    pen.ellipse((45, 55, 211, 210), fill=fur)
    pen.ellipse((92, 140, 164, 200), fill=(225, 218, 210))
    for x in (78, 142):
        pen.ellipse((x, 100, x + 36, 134), fill=(185, 195, 85))
        pen.ellipse((x + 13, 101, x + 23, 133), fill=(10, 10, 10))
    pen.polygon([(118, 148), (138, 148), (128, 162)], fill=(190, 110, 110))
    for y in (155, 165, 175):
        pen.line((40, y - 8, 105, y), fill=(240, 240, 235), width=2)
        pen.line((216, y - 8, 151, y), fill=(240, 240, 235), width=2)
    return image
