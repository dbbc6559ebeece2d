"""cdjax.models"""
