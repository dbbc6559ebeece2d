"""cdjax.diffusion"""
