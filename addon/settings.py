"""What a scene remembers: footage, choices of each step, and takes."""

CLASSES: tuple[type, ...] = ()
