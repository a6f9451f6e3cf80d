"""The command of panopticapi's file name; Python code imports ``two_channels2panoptic...``."""  # noqa: N999

from segbench.panopticapi.converters.two_channels2panoptic_coco_format import main

if __name__ == "__main__":
    main()
