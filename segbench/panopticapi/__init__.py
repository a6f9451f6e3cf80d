"""A drop-in for panopticapi: the same modules, names, command lines, tables and errors.

Replace ``from panopticapi.evaluation import pq_compute`` by
``from segbench.panopticapi.evaluation import pq_compute``, or a script by
``python -m segbench.panopticapi.evaluation``. The code is written anew on segbench's exact
evaluators. What panopticapi does carelessly is put right unless ``strict_compat=True`` (on
command lines ``--strict-compat``) asks for its very behaviour:

- areas of true segments are counted in the PNG, not read from the JSON;
- every crowd of a category excuses predictions, not the last one only;
- a group without any segment has no score (None and a warning) where there a division by
  zero ends everything;
- sums run in file order, so the last bits do not depend on the number of processes;
- segment ids are the same in every run; annotations are numbered from 1, because COCO tools
  never match number 0;
- an image that is predicted twice is an error; there the last prediction wins.
"""
