"""cdjax.findings"""
