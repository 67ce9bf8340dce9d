"""The temporal-convolution lifter: network, what it looks at, and its weights on disk. Imports torch."""
