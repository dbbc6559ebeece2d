"""cdjax.counterfactual"""
