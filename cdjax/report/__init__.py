"""cdjax.report"""
