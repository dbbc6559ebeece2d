"""cdjax.losses"""
