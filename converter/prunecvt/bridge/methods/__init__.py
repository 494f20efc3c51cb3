"""Training-time methods, as small pieces over the module of ``prunecvt.bridge.to_module``.

Each piece is a ``Hook`` (a penalty, an edit of gradients, or what follows a step) or a function on
weights by name, so that they combine: a mask stays while a penalty works. docs/methods.md has a
recipe and a measured result for each.
"""
