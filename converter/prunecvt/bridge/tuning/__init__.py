"""Distillation: a slimmed model learns to answer as its original does, without labels.

The parts: ``losses`` (what is made small), ``hints`` (which inner activations take part),
``samples`` and ``augment`` (what it is made small on), ``teacher`` (what is right), ``training``
(the loop), ``checkpoint`` and ``parallel`` (going on, and several processes). ``distil`` puts them
together. See docs/tune.md.
"""
