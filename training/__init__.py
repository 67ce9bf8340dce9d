"""How the lifter learns: motion data, synthetic views of it, the loop, and the figures. Depends on core alone."""
