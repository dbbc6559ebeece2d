"""cdjax.train"""
