"""cdjax.cli"""
