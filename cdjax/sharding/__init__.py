"""cdjax.sharding"""
