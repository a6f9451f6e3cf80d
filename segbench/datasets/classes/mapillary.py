"""The label lists of Mapillary Vistas 1.2 and 2.0, in the order of their configuration files.

The last label of both, unlabeled, is left out: it is not scored. Colours are the published
ones; where version 2.0 gives one colour to several labels, the later ones are moved by a step
that the eye does not see, so that every class can be told by its colour.
Neuhold, Ollmann, Rota Bulò, Kontschieder, ICCV 2017.
"""

from segbench.core.types import Category

_V12: tuple[tuple[str, str, str, bool], ...] = (
    ("animal--bird", "Bird", "#a52a2a", True),
    ("animal--ground-animal", "Ground Animal", "#00c000", True),
    ("construction--barrier--curb", "Curb", "#c4c4c4", False),
    ("construction--barrier--fence", "Fence", "#be9999", False),
    ("construction--barrier--guard-rail", "Guard Rail", "#b4a5b4", False),
    ("construction--barrier--other-barrier", "Barrier", "#5a7896", False),
    ("construction--barrier--wall", "Wall", "#66669c", False),
    ("construction--flat--bike-lane", "Bike Lane", "#8040ff", False),
    ("construction--flat--crosswalk-plain", "Crosswalk - Plain", "#8c8cc8", True),
    ("construction--flat--curb-cut", "Curb Cut", "#aaaaaa", False),
    ("construction--flat--parking", "Parking", "#faaaa0", False),
    ("construction--flat--pedestrian-area", "Pedestrian Area", "#606060", False),
    ("construction--flat--rail-track", "Rail Track", "#e6968c", False),
    ("construction--flat--road", "Road", "#804080", False),
    ("construction--flat--service-lane", "Service Lane", "#6e6e6e", False),
    ("construction--flat--sidewalk", "Sidewalk", "#f423e8", False),
    ("construction--structure--bridge", "Bridge", "#966464", False),
    ("construction--structure--building", "Building", "#464646", False),
    ("construction--structure--tunnel", "Tunnel", "#96785a", False),
    ("human--person", "Person", "#dc143c", True),
    ("human--rider--bicyclist", "Bicyclist", "#ff0000", True),
    ("human--rider--motorcyclist", "Motorcyclist", "#ff0064", True),
    ("human--rider--other-rider", "Other Rider", "#ff00c8", True),
    ("marking--crosswalk-zebra", "Lane Marking - Crosswalk", "#c88080", True),
    ("marking--general", "Lane Marking - General", "#ffffff", False),
    ("nature--mountain", "Mountain", "#40aa40", False),
    ("nature--sand", "Sand", "#e6a032", False),
    ("nature--sky", "Sky", "#4682b4", False),
    ("nature--snow", "Snow", "#beffff", False),
    ("nature--terrain", "Terrain", "#98fb98", False),
    ("nature--vegetation", "Vegetation", "#6b8e23", False),
    ("nature--water", "Water", "#00aa1e", False),
    ("object--banner", "Banner", "#ffff80", True),
    ("object--bench", "Bench", "#fa001e", True),
    ("object--bike-rack", "Bike Rack", "#648cb4", True),
    ("object--billboard", "Billboard", "#dcdcdc", True),
    ("object--catch-basin", "Catch Basin", "#dc8080", True),
    ("object--cctv-camera", "CCTV Camera", "#de2828", True),
    ("object--fire-hydrant", "Fire Hydrant", "#64aa1e", True),
    ("object--junction-box", "Junction Box", "#282828", True),
    ("object--mailbox", "Mailbox", "#212121", True),
    ("object--manhole", "Manhole", "#6480a0", True),
    ("object--phone-booth", "Phone Booth", "#8e0000", True),
    ("object--pothole", "Pothole", "#466496", False),
    ("object--street-light", "Street Light", "#d2aa64", True),
    ("object--support--pole", "Pole", "#999999", True),
    ("object--support--traffic-sign-frame", "Traffic Sign Frame", "#808080", True),
    ("object--support--utility-pole", "Utility Pole", "#000050", True),
    ("object--traffic-light", "Traffic Light", "#faaa1e", True),
    ("object--traffic-sign--back", "Traffic Sign (Back)", "#c0c0c0", True),
    ("object--traffic-sign--front", "Traffic Sign (Front)", "#dcdc00", True),
    ("object--trash-can", "Trash Can", "#8c8c14", True),
    ("object--vehicle--bicycle", "Bicycle", "#770b20", True),
    ("object--vehicle--boat", "Boat", "#9600ff", True),
    ("object--vehicle--bus", "Bus", "#003c64", True),
    ("object--vehicle--car", "Car", "#00008e", True),
    ("object--vehicle--caravan", "Caravan", "#00005a", True),
    ("object--vehicle--motorcycle", "Motorcycle", "#0000e6", True),
    ("object--vehicle--on-rails", "On Rails", "#005064", False),
    ("object--vehicle--other-vehicle", "Other Vehicle", "#804040", True),
    ("object--vehicle--trailer", "Trailer", "#00006e", True),
    ("object--vehicle--truck", "Truck", "#000046", True),
    ("object--vehicle--wheeled-slow", "Wheeled Slow", "#0000c0", True),
    ("void--car-mount", "Car Mount", "#202020", False),
    ("void--ego-vehicle", "Ego Vehicle", "#780a0a", False),
)
"""Key, readable name, colour and "has instances" of the labels 0 to 64."""

_V20: tuple[tuple[str, str], ...] = (
    ("animal--bird", "#a52a2a"),
    ("animal--ground-animal", "#00c000"),
    ("construction--barrier--ambiguous", "#faaa1f"),
    ("construction--barrier--concrete-block", "#faaa20"),
    ("construction--barrier--curb", "#c4c4c4"),
    ("construction--barrier--fence", "#be9999"),
    ("construction--barrier--guard-rail", "#b4a5b4"),
    ("construction--barrier--other-barrier", "#5a7896"),
    ("construction--barrier--road-median", "#faaa21"),
    ("construction--barrier--road-side", "#faaa22"),
    ("construction--barrier--separator", "#808080"),
    ("construction--barrier--temporary", "#faaa23"),
    ("construction--barrier--wall", "#66669c"),
    ("construction--flat--bike-lane", "#8040ff"),
    ("construction--flat--crosswalk-plain", "#8c8cc8"),
    ("construction--flat--curb-cut", "#aaaaaa"),
    ("construction--flat--driveway", "#faaa24"),
    ("construction--flat--parking", "#faaaa0"),
    ("construction--flat--parking-aisle", "#faaa25"),
    ("construction--flat--pedestrian-area", "#606060"),
    ("construction--flat--rail-track", "#e6968c"),
    ("construction--flat--road", "#804080"),
    ("construction--flat--road-shoulder", "#6e6e6e"),
    ("construction--flat--service-lane", "#6e6e6e"),
    ("construction--flat--sidewalk", "#f423e8"),
    ("construction--flat--traffic-island", "#80c480"),
    ("construction--structure--bridge", "#966464"),
    ("construction--structure--building", "#464646"),
    ("construction--structure--garage", "#969696"),
    ("construction--structure--tunnel", "#96785a"),
    ("human--person--individual", "#dc143c"),
    ("human--person--person-group", "#dc143c"),
    ("human--rider--bicyclist", "#ff0000"),
    ("human--rider--motorcyclist", "#ff0064"),
    ("human--rider--other-rider", "#ff00c8"),
    ("marking--continuous--dashed", "#ffffff"),
    ("marking--continuous--solid", "#ffffff"),
    ("marking--continuous--zigzag", "#faaa1d"),
    ("marking--discrete--ambiguous", "#faaa1c"),
    ("marking--discrete--arrow--left", "#faaa1a"),
    ("marking--discrete--arrow--other", "#faaa19"),
    ("marking--discrete--arrow--right", "#faaa18"),
    ("marking--discrete--arrow--split-left-or-straight", "#faaa16"),
    ("marking--discrete--arrow--split-right-or-straight", "#faaa15"),
    ("marking--discrete--arrow--straight", "#faaa14"),
    ("marking--discrete--crosswalk-zebra", "#ffffff"),
    ("marking--discrete--give-way-row", "#faaa13"),
    ("marking--discrete--give-way-single", "#faaa12"),
    ("marking--discrete--hatched--chevron", "#faaa0c"),
    ("marking--discrete--hatched--diagonal", "#faaa0b"),
    ("marking--discrete--other-marking", "#ffffff"),
    ("marking--discrete--stop-line", "#ffffff"),
    ("marking--discrete--symbol--bicycle", "#faaa10"),
    ("marking--discrete--symbol--other", "#faaa0f"),
    ("marking--discrete--text", "#faaa0f"),
    ("marking-only--continuous--dashed", "#ffffff"),
    ("marking-only--discrete--crosswalk-zebra", "#ffffff"),
    ("marking-only--discrete--other-marking", "#ffffff"),
    ("marking-only--discrete--text", "#ffffff"),
    ("nature--mountain", "#40aa40"),
    ("nature--sand", "#e6a032"),
    ("nature--sky", "#4682b4"),
    ("nature--snow", "#beffff"),
    ("nature--terrain", "#98fb98"),
    ("nature--vegetation", "#6b8e23"),
    ("nature--water", "#00aa1e"),
    ("object--banner", "#ffff80"),
    ("object--bench", "#fa001e"),
    ("object--bike-rack", "#648cb4"),
    ("object--catch-basin", "#dc8080"),
    ("object--cctv-camera", "#de2828"),
    ("object--fire-hydrant", "#64aa1e"),
    ("object--junction-box", "#282828"),
    ("object--mailbox", "#212121"),
    ("object--manhole", "#6480a0"),
    ("object--parking-meter", "#1414ff"),
    ("object--phone-booth", "#8e0000"),
    ("object--pothole", "#466496"),
    ("object--sign--advertisement", "#faab1e"),
    ("object--sign--ambiguous", "#faac1e"),
    ("object--sign--back", "#faad1e"),
    ("object--sign--information", "#faae1e"),
    ("object--sign--other", "#faaf1e"),
    ("object--sign--store", "#fab01e"),
    ("object--street-light", "#d2aa64"),
    ("object--support--pole", "#999999"),
    ("object--support--pole-group", "#999999"),
    ("object--support--traffic-sign-frame", "#808080"),
    ("object--support--utility-pole", "#000050"),
    ("object--traffic-cone", "#d23c3c"),
    ("object--traffic-light--cyclists", "#faaa1e"),
    ("object--traffic-light--general-horizontal", "#faaa1e"),
    ("object--traffic-light--general-single", "#faaa1e"),
    ("object--traffic-light--general-upright", "#faaa1e"),
    ("object--traffic-light--other", "#faaa1e"),
    ("object--traffic-light--pedestrians", "#faaa1e"),
    ("object--traffic-sign--ambiguous", "#c0c0c0"),
    ("object--traffic-sign--back", "#c0c0c0"),
    ("object--traffic-sign--direction-back", "#c0c0c0"),
    ("object--traffic-sign--direction-front", "#dcdc00"),
    ("object--traffic-sign--front", "#dcdc00"),
    ("object--traffic-sign--information-parking", "#0000c4"),
    ("object--traffic-sign--temporary-back", "#c0c0c0"),
    ("object--traffic-sign--temporary-front", "#dcdc00"),
    ("object--trash-can", "#8c8c14"),
    ("object--vehicle--bicycle", "#770b20"),
    ("object--vehicle--boat", "#9600ff"),
    ("object--vehicle--bus", "#003c64"),
    ("object--vehicle--car", "#00008e"),
    ("object--vehicle--caravan", "#00005a"),
    ("object--vehicle--motorcycle", "#0000e6"),
    ("object--vehicle--on-rails", "#005064"),
    ("object--vehicle--other-vehicle", "#804040"),
    ("object--vehicle--trailer", "#00006e"),
    ("object--vehicle--truck", "#000046"),
    ("object--vehicle--vehicle-group", "#00008e"),
    ("object--vehicle--wheeled-slow", "#0000c0"),
    ("object--water-valve", "#aaaaaa"),
    ("void--car-mount", "#202020"),
    ("void--dynamic", "#6f4a00"),
    ("void--ego-vehicle", "#780a0a"),
    ("void--ground", "#510051"),
    ("void--static", "#6f6f00"),
)
"""Key and colour of the labels 0 to 122."""


def _rgb(color: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(color[1:])
    return red, green, blue


def _group(key: str) -> str:
    return key.split("--")[0]


def _apart(colors: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Move a colour that an earlier label has by one step of blue until it is its own."""
    found: list[tuple[int, int, int]] = []
    for red, green, blue in colors:
        step = 1 if blue < 128 else -1
        while (red, green, blue) in found:
            blue += step
        found.append((red, green, blue))
    return found


V12 = tuple(
    Category(number, name, isthing, _rgb(color), _group(key))
    for number, (key, name, color, isthing) in enumerate(_V12, start=1)
)
V20 = tuple(
    Category(number, key, False, color, _group(key))
    for number, ((key, _), color) in enumerate(
        zip(_V20, _apart([_rgb(color) for _, color in _V20]), strict=True), start=1
    )
)
KEYS = {"v1.2": tuple(row[0] for row in _V12), "v2.0": tuple(row[0] for row in _V20)}
"""Names of the labels in ``config_<version>.json``."""
