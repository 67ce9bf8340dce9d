"""C3D files, videos and pictures that were made to harm. Native code reads them; what it fell over is read apart."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from footage_samples import write_video
from hostile_samples import KINDS, c3d_file, outcome, picture_file, refused, video_file, written
from keylift.core.errors import FootageError

TESTS = Path(__file__).resolve().parent.parent
_READ = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from hostile_samples import KINDS, outcome
for file in sys.argv[3:]:
    print(type(outcome(KINDS[sys.argv[2]], Path(file).read_bytes())).__name__)
"""


def in_a_process(kind: str, contents: list[bytes], folder: Path) -> list[str]:
    """What reading each comes to, as the name of the error, in a process that may not take more than 4 GB."""
    files = []
    for number, content in enumerate(contents):
        files.append(str(folder / f"{number}.bin"))
        Path(files[-1]).write_bytes(content)
    limited = "try:\n import resource as r\n r.setrlimit(r.RLIMIT_AS, (4 << 30, 4 << 30))\nexcept ImportError: ...\n"
    command = [sys.executable, "-c", limited + _READ, str(TESTS), kind, *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{done.stdout[-300:]}\n{done.stderr[-2000:]}"
    return done.stdout.split()


def c3d_without_text_lengths() -> list[bytes]:
    """A C3D file for each of its texts, which then has no length: ezc3d falls over each."""
    sound, at, broken = c3d_file(), 516, []
    while sound[at]:
        name_length, group = struct.unpack_from("bb", sound, at)
        link_at = at + 2 + abs(name_length)
        (link,) = struct.unpack_from("<H", sound, link_at)
        if group > 0 and sound[link_at + 2] == 0xFF and link > 8:
            broken.append(sound[: link_at + 3] + b"\0X\0" + sound[link_at + 6 :])
        if link == 0:
            break
        at = link_at + link
    return broken


def test_c3d_files_that_took_python_down(tmp_path: Path) -> None:
    broken = c3d_without_text_lengths()
    assert len(broken) >= 3
    # Their counts of frames, points and samples: more than there are, none, and backwards.
    for place in (2, 4, 6, 8):
        broken += [
            c3d_file()[:place] + struct.pack("<H", value) + c3d_file()[place + 2 :] for value in (0, 9999, 65535)
        ]
    came_to = in_a_process("c3d", broken, tmp_path)
    assert set(came_to[:-12]) == {"FileFormatError"} and set(came_to[-12:]) <= {"FileFormatError", "NoneType"}


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def test_a_picture_that_says_it_is_far_larger() -> None:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
    huge = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1 << 20))) + chunk(b"IEND", b"")
    refused("picture", huge)
    refused("picture", picture_file()[:40])


@pytest.mark.parametrize(("width", "height"), [(12_000, 10_000), (20_000, 10), (10, 20_000)])
def test_a_picture_that_is_far_larger_than_footage(width: int, height: int) -> None:
    """All of it is there: black packs to a thousandth."""
    packer = zlib.compressobj(1)
    rows = b"".join(packer.compress(bytes(width + 1)) for _ in range(height)) + packer.flush()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    content = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    assert len(content) < 1 << 20 and "at most 16,384 pixels a side" in refused("picture", content)


def test_pixels_so_wide_that_the_picture_is_far_larger_than_footage() -> None:
    content = written(
        lambda path: write_video(path, [np.zeros((32, 8192, 3), np.uint8)], pixel_aspect=Fraction(4)), "x.mp4"
    )
    assert "has pictures of 32768x32" in refused("video", content)


@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.6])
def test_videos_that_end_before_they_say(ending: str, share: float) -> None:
    content = video_file(ending)
    kind = KINDS["video" if ending == ".mp4" else "matroska"]
    assert isinstance(outcome(kind, content[: int(share * len(content))]), FootageError)


def test_a_video_that_says_it_has_a_billion_frames() -> None:
    content = video_file()
    at = content.index(b"stts") + 12
    lying = content[:at] + struct.pack(">I", 10**9) + content[at + 4 :]
    problem = outcome(KINDS["video"], lying)
    assert problem is None or isinstance(problem, FootageError)


@pytest.mark.parametrize("text", [b"#EXTM3U\nhttp://example.invalid/x.ts\n", b"ffconcat version 1.0\nfile /etc/x\n",
                                  b"v=0\nm=video 5004 RTP/AVP 96\n", b"<MPD></MPD>", b"\x1b[2Jhello"])  # fmt: skip
def test_playlists_and_texts_are_no_footage(text: bytes) -> None:
    refused("video", text)
