"""Memory that ran out, and a GPU that fails in the middle of its work, told from other errors of libraries'.

Knows nothing of these libraries.
"""

from __future__ import annotations

from .errors import DeviceError, TryAgainError

OUT_OF_MEMORY = (
    "The memory ran out. Close other programs, or take less at once (fewer frames with --frames, a smaller batch in a "
    "training's configuration), and run it again."
)
_FAILED = (
    "The GPU failed in the middle of the work ({reason}). Run it again (with --resume where there is a run to go on "
    "with). If it fails again, say --device cpu, or start the computer anew."
)
# How torch's errors begin for NVIDIA's and AMD's GPUs and Apple's; cuBLAS and cuDNN have names of their own.
_BEGINNINGS = ("CUDA error", "CUDA driver error", "HIP error", "cuDNN error", "MIOpen", "MPS backend", "NCCL error")
_KINDS = ("AcceleratorError", "OutOfMemoryError")
_LONGEST_REASON = 200
# What a library says that could not be loaded because there was no room for it, and what native code says of itself.
_NO_ROOM = ("cannot allocate memory", "failed to map segment", "not enough memory", "paging file is too small")
_NO_ROOM_LATER = ("not enough memory", "bad_alloc", "cannot allocate memory")


def memory_ran_out(problem: BaseException) -> bool:
    """Whether ``problem``, or what caused it, says that the computer's own memory ran out, in whatever words."""
    for one in (problem, problem.__cause__):
        words = _NO_ROOM if isinstance(one, ImportError | OSError) else _NO_ROOM_LATER
        said = str(one).lower() if isinstance(one, ImportError | OSError | RuntimeError) else ""
        if isinstance(one, MemoryError) or any(word in said for word in words):
            return True
    return False


def device_failure(problem: BaseException) -> DeviceError | TryAgainError | None:
    """What to raise when ``problem`` says that the device failed, or that its memory ran out; None for anything else.

    torch says AcceleratorError or OutOfMemoryError, or RuntimeError with words of its own around the device's.
    """
    text = str(problem)
    found = min((text.find(words) for words in _BEGINNINGS if words in text), default=-1)
    if type(problem).__name__ not in _KINDS and not (isinstance(problem, RuntimeError) and found >= 0):
        return None
    if type(problem).__name__ == "OutOfMemoryError" or "out of memory" in text or "ALLOC_FAILED" in text:
        return TryAgainError(OUT_OF_MEMORY)
    lines = text[max(found, 0) :].splitlines() or [type(problem).__name__]
    return DeviceError(_FAILED.format(reason=lines[0][:_LONGEST_REASON].rstrip(".'\")")))
