"""cdjax: counterfactual chest radiographs for rare disease, in JAX and Flax."""

__version__ = "0.1.0"
