"""Learning from the one clip at hand: a lifter that suits it, if there is any to be had."""
