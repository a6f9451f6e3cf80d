"""Colours for classes whose publisher gives none."""

import colorsys


def spread_color(number: int) -> tuple[int, int, int]:
    """Return the colour of class 0, 1, 2, ...: neighbours differ, the first 255 are distinct.

    The hue goes on by the golden ratio; saturation and value change with it.
    """
    hue = number * 0.618034 % 1
    channels = colorsys.hsv_to_rgb(hue, 0.5 + number % 3 * 0.2, 0.6 + number % 4 * 0.1)
    red, green, blue = (round(255 * channel) for channel in channels)
    return red, green, blue
