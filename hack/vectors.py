#!/usr/bin/env python3
"""Writes src/core/vectors: keys and their slots by Python's zlib and hashlib, which are not ours.

Run from the root of the checkout: python3 hack/vectors.py
"""

import hashlib
import json
import pathlib
import uuid
import zlib

SLOTS = [1, 3, 16, 1000, 1024, 16384]

KEYS = [
    # Check values: CRC-32 of 123456789 is 0xCBF43926, of MySQL 3259397556.
    "123456789", "MySQL",
    # Hardly a key at all.
    " ", "\t", "0", "a", "A", "-", "~",
    # Numbers, as text.
    "1", "7", "42", "-1", "007", "1000", "65535", "4294967295", "9223372036854775807", "3.14",
    # Names, addresses, what users are called.
    "vip-1", "vip-2", "user-1", "user-2", "user1000", "alice", "Alice", "bob@example.com", "a/b c?d=e&f#g", "%41",
    "x" * 31, "order:12-u7",
    # Not ASCII: composed and decomposed, right to left, outside the first plane.
    "é", "e\u0301", "straße", "Дмитрий", "北京", "東京都", "مرحبا", "🚀", "👩‍👩‍👧", "\u00a0", "\ufeffbom",
    # Long, up to the longest key of 1024 bytes.
    "k" * 255, "k" * 256, "abc" * 100, "ß" * 512, "z" * 1024,
] + [str(uuid.uuid5(uuid.NAMESPACE_DNS, f"user-{n}.example")) for n in range(8)]


def crc32(key: bytes) -> int:
    return zlib.crc32(key)


def md5(key: bytes) -> int:
    return int.from_bytes(hashlib.md5(key).digest()[:4], "big")


def main() -> None:
    assert crc32(b"MySQL") == 3259397556
    assert crc32(b"123456789") == 0xCBF43926
    # RFC 1321: d41d8cd98f00b204e9800998ecf8427e of nothing, f96b697d7cb7938d525a2f31aaf161d0 of "message digest".
    assert md5(b"") == 0xD41D8CD9
    assert md5(b"message digest") == 0xF96B697D
    for name, function in [("Crc32", crc32), ("Md5", md5)]:
        rows = [
            {"key": key, "function": name, "slots": slots, "slot": function(key.encode()) % slots}
            for key in KEYS
            for slots in SLOTS
        ]
        path = pathlib.Path(__file__).parent.parent / "src" / "core" / "vectors" / f"{name.lower()}.json"
        lines = ",\n".join("  " + json.dumps(row) for row in rows)
        path.write_text(f"[\n{lines}\n]\n")
        print(f"{name}: {len(rows)} rows")


if __name__ == "__main__":
    main()
