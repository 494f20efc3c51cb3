"""Loading a model from wherever it comes, with everything checked."""
