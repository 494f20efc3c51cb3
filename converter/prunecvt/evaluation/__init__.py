"""Accuracy on labelled data, before and after, with confidence intervals."""
