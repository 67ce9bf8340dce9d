"""What the detector got wrong and can be put right before lifting: sides, strays, other people's limbs."""

from .track_repair import repair, repair_counts, summary

__all__ = ["repair", "repair_counts", "summary"]
