"""Miniatures of every dataset's archives: one module a dataset, found by name.

A module ``<dataset>.py`` here has ``build(folder)``, which writes one sub-folder an archive of
``INFO.archives``, named as the archive: the exact tree of its members, a few tiny images in it
(an archive that is not a container is a plain file). A dataset without archives writes ``raw/``,
the folder a user would supply. ``OPTIONS`` (optional) are the options of ``prepare``.
"""
