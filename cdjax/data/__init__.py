"""cdjax.data"""
