"""Counterfactuals: abduct what an image's causes were, act on the findings, predict the image."""
