"""What an animator sets once: the worker's environment, devices and folders."""

CLASSES: tuple[type, ...] = ()
