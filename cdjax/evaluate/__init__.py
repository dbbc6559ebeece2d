"""cdjax.evaluate"""
