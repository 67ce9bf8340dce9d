"""Learning from a studio's footage: a set is made of it, a lifter learns from it, a gate says whether that helped."""
