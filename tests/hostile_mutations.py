"""Files broken in the ways that damage, carelessness and malice break them.

A zip archive or a safetensors file with a flipped byte is refused by its checksum or its length. So what lies inside
is broken as well, and packed again as if nothing had happened.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
import zipfile
from random import Random

MOST_BYTES = 1 << 20
_ODD_NUMBERS = (
    b"-1", b"0", b"1e999", b"-1e999", b"nan", b"inf", b"1e-320", b"1000000000", b"99999999999999999999", b"2147483648",
    b"18446744073709551616", b"9" * 400, b"true", b'"x"', b"[]", b"{}", b"null", b"7200", b"0.1",
    b"0xfffffffffffffffffff",
)  # fmt: skip
_ODD_WORDS = (
    b"../../etc/passwd", b"/dev/zero", b"\x00", b"\xff\xfe", b"a" * 300, b"\xed\xa0\x80", b"con", b"{{7*7}}",
    b"<script>", b"O", b"|V0", b"<U0", b"|S0", b"<f8", b"|b1", b"<c16", b"<M8[s]", b"\n", b"=", b"[[", b"]", b"{", b"}",
    b"'''", b'"',
)  # fmt: skip
_ODD_INTEGERS = (0, 1, -1, 2, 127, 128, 255, 256, 32767, 65535, 1 << 30, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 40,
                 (1 << 63) - 1, (1 << 64) - 1)  # fmt: skip
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_WORD = re.compile(rb"[A-Za-z_|<>][A-Za-z0-9_./-]*")


def mutated(content: bytes, random: Random, times: int = 3) -> bytes:
    """``content`` broken in one to ``times`` places."""
    for _ in range(random.randint(1, times)):
        content = _broken_once(content, random)[:MOST_BYTES]
    return content


def _broken_once(content: bytes, random: Random) -> bytes:
    if content[:2] == b"PK" and random.random() < 0.8:
        return _zip_broken_inside(content, random)
    if content[8:9] == b"{" and random.random() < 0.8:
        return _safetensors_broken_inside(content, random)
    return random.choice(_WAYS)(content, random)


# ---- Bytes ----------------------------------------------------------------------------------------------------------


def _place(content: bytes, random: Random) -> int:
    # Headers are at the front, and that is where most is decided.
    return min(random.randrange(len(content) + 1), random.randrange(len(content) + 1)) if content else 0


def _flipped(content: bytes, random: Random) -> bytes:
    if not content:
        return content
    place = min(_place(content, random), len(content) - 1)
    return content[:place] + bytes([content[place] ^ 1 << random.randrange(8)]) + content[place + 1 :]


def _another_byte(content: bytes, random: Random) -> bytes:
    place = _place(content, random)
    return (
        content[:place] + bytes([random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))]) + content[place + 1 :]
    )


def _cut(content: bytes, random: Random) -> bytes:
    return content[: _place(content, random)]


def _without_part(content: bytes, random: Random) -> bytes:
    place = _place(content, random)
    return content[:place] + content[place + random.randint(1, 64) :]


def _spliced(content: bytes, random: Random) -> bytes:
    place, other = _place(content, random), _place(content, random)
    return content[:place] + content[other : other + random.randint(1, 256)] + content[place:]


def _integer_put(content: bytes, random: Random) -> bytes:
    size = random.choice((1, 2, 4, 8))
    value = random.choice(_ODD_INTEGERS) & ((1 << 8 * size) - 1)
    place = _place(content, random)
    order: str = random.choice(("little", "big"))
    put = value.to_bytes(size, "big" if order == "big" else "little")
    return content[:place] + put + content[place + size :]


def _number_replaced(content: bytes, random: Random) -> bytes:
    return _replaced(_NUMBER, _ODD_NUMBERS, content, random)


def _word_replaced(content: bytes, random: Random) -> bytes:
    return _replaced(_WORD, _ODD_WORDS, content, random)


def _replaced(what: re.Pattern[bytes], by: tuple[bytes, ...], content: bytes, random: Random) -> bytes:
    found = list(what.finditer(content[:20_000]))
    if not found:
        return _flipped(content, random)
    one = random.choice(found)
    return content[: one.start()] + random.choice(by) + content[one.end() :]


def _word_put(content: bytes, random: Random) -> bytes:
    place = _place(content, random)
    return content[:place] + random.choice(_ODD_WORDS + _ODD_NUMBERS) * random.choice((1, 1, 1, 50)) + content[place:]


def _line_doubled(content: bytes, random: Random) -> bytes:
    lines = content.split(b"\n")
    place = random.randrange(len(lines))
    lines.insert(random.randrange(len(lines) + 1), lines[place])
    return b"\n".join(lines)


_WAYS = (
    _flipped, _another_byte, _cut, _without_part, _spliced, _integer_put, _number_replaced, _number_replaced,
    _word_replaced, _word_put, _line_doubled,
)  # fmt: skip


# ---- Inside of containers -------------------------------------------------------------------------------------------


def _zip_broken_inside(content: bytes, random: Random) -> bytes:
    """One member broken, renamed, doubled or left out, and all packed again with checksums that are right."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [(member, archive.read(member)) for member in archive.infolist()[:64]]
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zipfile.zlib.error):  # type: ignore[attr-defined]
        return random.choice(_WAYS)(content, random)
    if not members:
        return content
    place = random.randrange(len(members))
    chosen, data = members[place]
    what = random.random()
    if what < 0.75:
        members[place] = chosen, _member_broken(data, random)
    elif what < 0.82:
        members[place] = _renamed(chosen, random.choice(_ODD_WORDS).decode("latin1").replace("\0", "_")), data
    elif what < 0.88:
        members.append((chosen, _member_broken(data, random)))
    elif what < 0.94:
        del members[place]
    else:
        other = random.randrange(len(members))
        members[place] = chosen, members[other][1]
    return _zipped(members)


def _renamed(member: zipfile.ZipInfo, name: str) -> zipfile.ZipInfo:
    renamed = zipfile.ZipInfo(name)
    renamed.compress_type = member.compress_type
    return renamed


def _member_broken(data: bytes, random: Random) -> bytes:
    if data[:6] == b"\x93NUMPY" and len(data) > 10 and random.random() < 0.5:
        return _npy_broken(data, random)
    return random.choice(_WAYS)(data, random)


def _npy_broken(data: bytes, random: Random) -> bytes:
    """Another shape or type in the header, whose length is right."""
    (length,) = struct.unpack("<H", data[8:10])
    header, rest = data[10 : 10 + length], data[10 + length :]
    header = random.choice((_number_replaced, _word_replaced, _word_put, _another_byte))(header, random)[:65_535]
    return data[:8] + struct.pack("<H", len(header)) + header + rest


def _zipped(members: list[tuple[zipfile.ZipInfo, bytes]]) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w") as archive:
        warnings.simplefilter("ignore", UserWarning)
        for member, data in members:
            archive.writestr(_renamed(member, member.filename), data)
    return file.getvalue()


def _safetensors_broken_inside(content: bytes, random: Random) -> bytes:
    """The header broken, and its length made right again."""
    (length,) = struct.unpack("<Q", content[:8])
    header, data = content[8 : 8 + length], content[8 + length :]
    header = random.choice((_number_replaced, _number_replaced, _word_replaced, _word_put, _spliced))(header, random)
    return struct.pack("<Q", len(header)) + header + data
