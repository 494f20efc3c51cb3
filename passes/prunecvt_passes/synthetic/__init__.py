"""Recovery without data: noise, on a model whose statistics are the noise's."""
