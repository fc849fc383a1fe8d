#!/usr/bin/env python3
"""Reads a repository's directory with the password and docs/format.md alone: none of Holdfast's code.

    format_reader.py keys REPOSITORY [--content-keys N]        "LABEL HEX" lines: every key but the server's own
    format_reader.py list REPOSITORY SNAPSHOT                  a line per entry: type, mode, size, path
    format_reader.py check REPOSITORY SNAPSHOT DIRECTORY       compares names, types, sizes, modes, times, link
                                                               targets, xattrs and contents with a directory

The password comes from HOLDFAST_PASSWORD. Ciphers come from OpenSSL, Argon2 and zstd through ctypes.
"""

import argparse
import ctypes
import ctypes.util
import glob
import hashlib
import hmac
import os
import stat
import struct
import sys


def library(name, fallback):
    return ctypes.CDLL(ctypes.util.find_library(name) or fallback)


crypto = library("crypto", "libcrypto.so.3")
argon2 = library("argon2", "libargon2.so.1")
zstd = library("zstd", "libzstd.so.1")

for function in ("EVP_CIPHER_CTX_new", "EVP_aes_256_gcm", "EVP_chacha20_poly1305"):
    getattr(crypto, function).restype = ctypes.c_void_p
zstd.ZSTD_decompress.restype = ctypes.c_size_t


class Damaged(Exception):
    pass


# --- Primitives -----------------------------------------------------------------------------------


def aead_open(algorithm, key, nonce, sealed, aad):
    """AES-256-GCM (1) or ChaCha20-Poly1305 (2); ciphertext, then tag."""
    if len(sealed) < 16:
        raise Damaged("sealed text of %d bytes" % len(sealed))
    cipher = ctypes.c_void_p({1: crypto.EVP_aes_256_gcm, 2: crypto.EVP_chacha20_poly1305}[algorithm]())
    context = ctypes.c_void_p(crypto.EVP_CIPHER_CTX_new())
    text, tag = sealed[:-16], sealed[-16:]
    out, length = ctypes.create_string_buffer(len(text) + 16), ctypes.c_int()
    try:
        ok = crypto.EVP_DecryptInit_ex(context, cipher, None, None, None) == 1
        ok = ok and crypto.EVP_CIPHER_CTX_ctrl(context, 0x9, 12, None) == 1
        ok = ok and crypto.EVP_DecryptInit_ex(context, None, None, key, nonce) == 1
        ok = ok and (not aad or crypto.EVP_DecryptUpdate(context, None, ctypes.byref(length), aad, len(aad)) == 1)
        ok = ok and crypto.EVP_DecryptUpdate(context, out, ctypes.byref(length), text, len(text)) == 1
        size = length.value
        ok = ok and crypto.EVP_CIPHER_CTX_ctrl(context, 0x11, 16, ctypes.create_string_buffer(tag, 16)) == 1
        ok = ok and crypto.EVP_DecryptFinal_ex(context, ctypes.byref(out, size), ctypes.byref(length)) == 1
    finally:
        crypto.EVP_CIPHER_CTX_free(context)
    if not ok:
        raise Damaged("does not open")
    return out.raw[:size + length.value]


def argon2id(secret, salt, memory_kib, passes, size):
    out = ctypes.create_string_buffer(size)
    if argon2.argon2id_hash_raw(passes, memory_kib, 1, secret, ctypes.c_size_t(len(secret)), salt,
                                ctypes.c_size_t(len(salt)), out, ctypes.c_size_t(size)) != 0:
        raise Damaged("Argon2id refuses its parameters")
    return out.raw


def hkdf(key, salt, info, size=32):
    extracted = hmac.new(salt, key, hashlib.sha256).digest()
    out, block, counter = b"", b"", 1
    while len(out) < size:
        block = hmac.new(extracted, block + info + bytes([counter]), hashlib.sha256).digest()
        out += block
        counter += 1
    return out[:size]


BLAKE3_IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
BLAKE3_PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
CHUNK_START, CHUNK_END, PARENT, ROOT, KEYED = 1, 2, 4, 8, 16
MASK32 = 0xFFFFFFFF


def blake3_compress(cv, block, counter, length, flags):
    v = list(cv) + list(BLAKE3_IV[:4]) + [counter & MASK32, counter >> 32, length, flags]
    m = list(struct.unpack("<16I", block))

    def mix(a, b, c, d, x, y):
        v[a] = (v[a] + v[b] + x) & MASK32
        t = v[d] ^ v[a]
        v[d] = (t >> 16 | t << 16) & MASK32
        v[c] = (v[c] + v[d]) & MASK32
        t = v[b] ^ v[c]
        v[b] = (t >> 12 | t << 20) & MASK32
        v[a] = (v[a] + v[b] + y) & MASK32
        t = v[d] ^ v[a]
        v[d] = (t >> 8 | t << 24) & MASK32
        v[c] = (v[c] + v[d]) & MASK32
        t = v[b] ^ v[c]
        v[b] = (t >> 7 | t << 25) & MASK32

    for _ in range(7):
        mix(0, 4, 8, 12, m[0], m[1])
        mix(1, 5, 9, 13, m[2], m[3])
        mix(2, 6, 10, 14, m[4], m[5])
        mix(3, 7, 11, 15, m[6], m[7])
        mix(0, 5, 10, 15, m[8], m[9])
        mix(1, 6, 11, 12, m[10], m[11])
        mix(2, 7, 8, 13, m[12], m[13])
        mix(3, 4, 9, 14, m[14], m[15])
        m = [m[i] for i in BLAKE3_PERMUTATION]
    return [v[i] ^ v[i + 8] for i in range(8)] + [v[i + 8] ^ cv[i] for i in range(8)]


def blake3(data, key=None, size=32):
    """Slow: for what is small. At most 64 bytes of output."""
    words = struct.unpack("<8I", key) if key else BLAKE3_IV
    base = KEYED if key else 0

    def chunk_node(chunk, counter):
        cv = words
        blocks = [chunk[i:i + 64] for i in range(0, len(chunk), 64)] or [b""]
        for i, block in enumerate(blocks):
            flags = base | (CHUNK_START if i == 0 else 0) | (CHUNK_END if i == len(blocks) - 1 else 0)
            node = (cv, block.ljust(64, b"\0"), counter, len(block), flags)
            if i < len(blocks) - 1:
                cv = blake3_compress(*node)[:8]
        return node

    def subtree(chunks, first):
        if len(chunks) == 1:
            return chunk_node(chunks[0], first)
        left = 1 << ((len(chunks) - 1).bit_length() - 1)
        halves = [blake3_compress(*subtree(part, at))[:8] for part, at in ((chunks[:left], first), (chunks[left:], first + left))]
        return (words, struct.pack("<16I", *halves[0], *halves[1]), 0, 64, base | PARENT)

    cv, block, _, length, flags = subtree([data[i:i + 1024] for i in range(0, len(data), 1024)] or [b""], 0)
    return struct.pack("<16I", *blake3_compress(cv, block, 0, length, flags | ROOT))[:size]


def zstd_decompress(frame, size):
    out = ctypes.create_string_buffer(size + 1)
    if zstd.ZSTD_decompress(out, ctypes.c_size_t(size + 1), frame, ctypes.c_size_t(len(frame))) != size:
        raise Damaged("zstd frame does not give %d bytes" % size)
    return out.raw[:size]


class Reader:
    """Little-endian fields, varints and length-prefixed bytes."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        if self.at + n > len(self.data):
            raise Damaged("ends early")
        self.at += n
        return self.data[self.at - n:self.at]

    def u8(self):
        return self.take(1)[0]

    def u32(self):
        return struct.unpack("<I", self.take(4))[0]

    def u64(self):
        return struct.unpack("<Q", self.take(8))[0]

    def varint(self):
        value, shift = 0, 0
        while True:
            byte = self.u8()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                if byte == 0 and shift > 7 or shift > 70:
                    raise Damaged("varint is not in its shortest form")
                return value

    def svarint(self):
        value = self.varint()
        return value >> 1 ^ -(value & 1)

    def bytes(self):
        return self.take(self.varint())

    def more(self):
        return self.at < len(self.data)


def protobuf(data):
    """Field number -> list of values (int or bytes)."""
    out, reader = {}, Reader(data)
    while reader.more():
        tag = reader.varint()
        kind = tag & 7
        value = (reader.varint() if kind == 0 else reader.take(8) if kind == 1 else reader.bytes() if kind == 2
                 else reader.take(4))
        out.setdefault(tag >> 3, []).append(value)
    return out


def first(message, field, default=b""):
    return message.get(field, [default])[-1]


# --- Keys (sections 2 and 3) ----------------------------------------------------------------------


def newest(repository, prefix):
    """The blobs of one kind, newest generation first."""
    return sorted(glob.glob(os.path.join(repository, prefix + "*")), reverse=True)


def envelope(path, magic, fixed):
    data = open(path, "rb").read()
    reader = Reader(data)
    if reader.take(8) != magic:
        raise Damaged(path + ": other magic")
    payload = reader.take(reader.u32())
    after = reader.take(fixed)
    if blake3(data[:reader.at]) != reader.take(32) or reader.more():
        raise Damaged(path + ": digest")
    return payload, after


class Repository:
    def __init__(self, directory, secret):
        self.directory = directory
        self.keys = {}  # label -> bytes: all that the server must not have
        self.open_slots(secret)
        self.open_keyring()
        self.records = {}  # id -> (path, offset, header)
        self.content_keys = {}

    def open_slots(self, secret):
        path = newest(self.directory, "keys/slots-")[0]
        payload, mac = envelope(path, b"HFSLOT1\0", 32)
        slots = protobuf(payload)
        self.id = first(slots, 1)
        for number, data in enumerate(slots.get(3, []), 1):
            slot = protobuf(data)
            out = argon2id(secret, first(slot, 6), first(slot, 4), first(slot, 5), 64)
            if out[32:] != first(slot, 7):
                continue
            wrapped = first(slot, 8)
            master = aead_open(1, out[:32], wrapped[:12], wrapped[12:], b"holdfast/1/slot" + self.id + bytes([first(slot, 2)]))
            self.keys["key-encryption-key"] = out[:32]
            self.keys["master-secret"] = master
            for label, info in (("keyring-key", b"keyring"), ("admin-key", b"admin"), ("slot-mac-key", b"slots")):
                self.keys[label] = hkdf(master, self.id, b"holdfast/1/" + info)
            head = b"HFSLOT1\0" + struct.pack("<I", len(payload)) + payload
            if hmac.new(self.keys["slot-mac-key"], head, hashlib.sha256).digest() != mac:
                raise Damaged("MAC of the key slots")
            return
        sys.exit("format_reader.py: the password opens no slot")

    def open_keyring(self):
        path = newest(self.directory, "keys/ring-")[0]
        payload, after = envelope(path, b"HFRING1\0", 32)
        self.aead = after[8]
        ring = protobuf(aead_open(self.aead, self.keys["keyring-key"], payload[:12], payload[12:],
                                  b"HFRING1\0" + self.id + after[:9]))
        self.epochs = {}
        for data in ring[4]:
            epoch = protobuf(data)
            self.epochs[first(epoch, 1)] = (first(epoch, 2), first(epoch, 3))
            number, secret = struct.pack("<I", first(epoch, 1)), first(epoch, 2)
            self.keys["dedup-secret"] = secret
            self.keys["nonce-key"] = hkdf(secret, self.id, b"holdfast/1/nonce" + number)
            self.keys["cut-key"] = hkdf(secret, self.id, b"holdfast/1/cut", 16)
            self.keys["name-cut-key"] = hkdf(secret, self.id, b"holdfast/1/name-cut")
            self.keys["chunk-key-data"] = hkdf(secret, self.id, b"holdfast/1/chunk" + number + b"\1" + bytes(4))
        self.owner_reader_key = self.keys["owner-reader-key"] = first(ring, 5)
        for data in ring.get(6, []):
            agent = first(protobuf(data), 1)
            number = struct.pack("<I", agent)
            self.keys["reader-key-%d" % agent] = hkdf(self.owner_reader_key, self.id, b"holdfast/1/agent-reader" + number)
            self.keys["agent-mac-key-%d" % agent] = hkdf(self.keys["master-secret"], self.id, b"holdfast/1/agent-mac" + number)
            for epoch, (secret, _) in self.epochs.items():
                self.keys["chunk-key-tree-%d-%d" % (epoch, agent)] = self.chunk_key(epoch, 2, agent)

    def chunk_key(self, epoch, kind, agent):
        number = struct.pack("<I", agent if kind == 2 else 0)
        key = hkdf(self.epochs[epoch][0], self.id, b"holdfast/1/chunk" + struct.pack("<IB", epoch, kind) + number)
        if kind != 2:
            return key
        reader = hkdf(self.owner_reader_key, self.id, b"holdfast/1/agent-reader" + number)
        tree = hkdf(reader, self.id, b"holdfast/1/agent-tree" + number)
        return hkdf(key + tree, self.id, b"holdfast/1/chunk-tree")

    def catalog_open(self, info, salt, algorithm, nonce, sealed, aad):
        for _, catalog in self.epochs.values():
            try:
                return aead_open(algorithm, hkdf(catalog, salt, info), nonce, sealed, aad)
            except Damaged:
                pass
        raise Damaged("no catalog key opens it")

    # --- Packs (section 9) ---

    def read_packs(self):
        for path in glob.glob(os.path.join(self.directory, "packs/*/*/*")):
            data = open(path, "rb").read()
            header, footer = data[:64], Reader(data[-64:])
            if header[:8] != b"HFPACK1\0" or footer.take(8) != b"HFPEND1\0":
                raise Damaged(path)
            pack_id, salt, kind = header[16:32], header[32:64], header[9]
            if pack_id.hex() != os.path.basename(path) or path.split("/")[-3] != {1: "d", 2: "t"}[kind]:
                raise Damaged(path + ": another pack's name")
            offset, length, count = footer.u64(), footer.u32(), footer.u32()
            sealed = data[offset:offset + length]
            if blake3(header + sealed + data[-64:-32]) != data[-32:]:
                raise Damaged(path + ": footer digest")
            trailer = Reader(self.catalog_open(b"holdfast/1/pack" + self.id + pack_id + bytes([kind]), salt, header[10],
                                               struct.pack("<IQ", 1, count), sealed, header))
            for _ in range(count):
                at, _ = trailer.u64(), trailer.take(32)
                fixed = trailer.take(52)
                record = fixed + trailer.take(32 * struct.unpack("<I", fixed[16:20])[0])
                self.records[record[20:52]] = (path, at, record)
            if trailer.more():
                raise Damaged(path + ": trailer is too long")

    # --- Records (section 5) ---

    def record(self, record_id, content_key, digest):
        """(plaintext, child ids)."""
        if record_id not in self.records:
            raise Damaged("record %s is nowhere" % record_id.hex())
        path, at, header = self.records[record_id]
        self.content_keys[record_id] = content_key
        with open(path, "rb") as file:
            file.seek(at)
            sealed = file.read(struct.unpack("<I", header[12:16])[0])
        body = Reader(aead_open(header[2], content_key, sealed[:12], sealed[12:], self.id + header))
        codec, size, padding = body.u8(), body.u32(), body.u32()
        payload = body.take(len(body.data) - 9 - padding)
        plain = zstd_decompress(payload, size) if codec == 1 else payload
        if len(plain) != size:
            raise Damaged("plaintext length")
        children = [header[i:i + 32] for i in range(52, len(header), 32)]
        # BLAKE3 is slow here.
        if len(plain) < 200_000 and blake3(header[1:2] + header[16:20] + b"".join(children) + plain) != digest:
            raise Damaged("content digest of record %s" % record_id.hex())
        return plain, children

    def check_id(self, record_id, content_key, digest, agent):
        """Recomputes id and content key, which no reader needs."""
        _, _, header = self.records[record_id]
        epoch, kind = struct.unpack("<I", header[4:8])[0], header[1]
        if blake3(digest, self.chunk_key(epoch, kind, agent), 64) != record_id + content_key:
            raise Damaged("id of record %s" % record_id.hex())

    # --- Manifests (section 8) ---

    def snapshots(self):
        return sorted(os.listdir(os.path.join(self.directory, "snapshots")))

    def manifest(self, name):
        data = open(os.path.join(self.directory, "snapshots", name), "rb").read()
        if data[:8] != b"HFMANI1\0":
            raise Damaged("manifest " + name)
        plain = self.catalog_open(b"holdfast/1/manifest-blob" + self.id + bytes.fromhex(name), data[16:48], data[9], bytes(12),
                                  data[48:], data[:48])
        if blake3(plain).hex() != name:
            raise Damaged("manifest %s has another id" % name)
        manifest = protobuf(plain)
        core_bytes = first(manifest, 1)
        core, mac = protobuf(core_bytes), protobuf(first(manifest, 2))
        agent = first(core, 3, 0)
        if blake3(b"holdfast/1/manifest" + core_bytes, self.keys["agent-mac-key-%d" % agent]) != first(mac, 3):
            raise Damaged("MAC of manifest " + name)
        for data in manifest[3]:
            stanza = protobuf(data)
            number = struct.pack("<I", first(stanza, 2, 0))
            key = hkdf(self.keys["reader-key-%d" % first(stanza, 2, 0)], first(stanza, 3), b"holdfast/1/stanza" + number)
            reference = aead_open(self.aead, key, bytes(12), first(stanza, 4), blake3(core_bytes))
        sums = [first(core, n, 0) for n in (12, 13, 14, 15)]
        return (first(core, 6), reference[:32], reference[32:]), agent, (sum(sums[:3]), sums[0], sums[1], sums[3])

    # --- Trees (section 7) ---

    def page(self, reference, agent):
        plain, children = self.record(*reference)
        self.check_id(*reference, agent)
        reader = Reader(plain)
        if reader.u8() != 1:
            raise Damaged("page version")
        kind, count = reader.u8(), reader.varint()
        if count != len(children):
            raise Damaged("references and children differ in number")
        references = [(c, reader.take(32), reader.take(32)) for c in children]
        extensions, last = Reader(reader.bytes()), 0
        while extensions.more():
            tag = extensions.varint()
            extensions.bytes()
            if tag % 2 or tag <= last:
                raise Damaged("extension field %d" % tag)
            last = tag
        return kind, reader, references

    def entries(self, reference, agent, below, start=b""):
        """`below`: entries, files, directories and bytes that there must be."""
        kind, reader, children = self.page(reference, agent)
        found = [0, 0, 0, 0]
        if kind == 2:
            reader.varint()
            key = b""
            for _ in range(reader.varint()):
                child = children[reader.varint()]
                key = key[:reader.varint()] + reader.bytes()
                sums = tuple(reader.varint() for _ in range(4))
                found = [a + b for a, b in zip(found, sums)]
                reader.bytes()
                reader.bytes()
                yield from self.entries(child, agent, sums, key)
        else:
            for entry in self.leaf(kind, reader, children, agent, start):
                is_file, is_directory = entry["type"] == 1, entry["type"] == 2
                found = [a + b for a, b in zip(found, (1, is_file, is_directory, entry["size"] if is_file else 0))]
                yield entry
        if tuple(found) != tuple(below):
            raise Damaged("counts of a page: %s, not %s" % (found, below))

    def leaf(self, kind, reader, children, agent, start):
        if kind != 1:
            raise Damaged("page kind %d" % kind)
        strings = [reader.bytes() for _ in range(reader.varint())]
        # A key: components joined by 0x00, then 0x00 0x00, then the name.
        directory = [c for c in start.split(b"\0\0")[0].split(b"\0") if c]
        left = reader.varint()
        while left:
            tag = reader.u8()
            if tag == 1:
                up, down = reader.varint(), reader.varint()
                directory = directory[:len(directory) - up] + [reader.bytes() for _ in range(down)]
            elif tag == 2:
                yield self.entry(Reader(reader.bytes()), directory, strings, children, agent)
                left -= 1
            else:
                raise Damaged("item %d" % tag)

    def entry(self, reader, directory, strings, children, agent):
        entry = {"type": reader.u8(), "flags": reader.varint(), "name": reader.bytes(), "mode": reader.varint(),
                 "uid": reader.varint(), "gid": reader.varint()}
        entry["owner"], entry["group"] = ((strings[n - 1] if n else None) for n in (reader.varint(), reader.varint()))
        entry["mtime"] = reader.svarint() * 10**9 + reader.varint()
        reader.svarint(), reader.varint()
        entry["inode"], entry["device"], entry["links"], entry["size"] = (reader.varint() for _ in range(4))
        entry["path"] = b"/".join(directory + [entry["name"]])
        fields, last = {}, {}
        while reader.more():
            tag, value = reader.varint(), reader.bytes()
            if tag % 2 and tag not in (1, 3, 5, 7, 9, 11, 13, 15, 17, 19):
                raise Damaged("field %d" % tag)
            fields[tag] = value
        entry["fields"], entry["children"], entry["agent"] = fields, children, agent
        return entry

    def holes(self, entry):
        data = entry["fields"].get(9)
        if 19 in entry["fields"]:
            data = self.record(*entry["children"][Reader(entry["fields"][19]).varint()])[0]
        out, at, reader = [], 0, Reader(data or b"")
        while reader.more():
            start = at + reader.varint()
            at = start + reader.varint()
            out.append((start, at))
        return out

    def xattrs(self, entry):
        data = entry["fields"].get(15)
        if 17 in entry["fields"]:
            data = self.record(*entry["children"][Reader(entry["fields"][17]).varint()])[0]
        out, reader = {}, Reader(data or b"")
        while reader.more():
            name = reader.bytes()
            out[name] = reader.bytes()
        if list(out) != sorted(out):
            raise Damaged("xattrs are not sorted")
        return out

    def pieces(self, reference, levels, agent):
        """(reference, length) of the chunks below a content list."""
        _, reader, children = self.page(reference, agent)
        reader.varint()
        for _ in range(reader.varint()):
            child, length = children[reader.varint()], reader.varint()
            if levels > 1:
                yield from self.pieces(child, levels - 1, agent)
            else:
                yield child, length

    def content(self, entry):
        """Blocks of a file's content, large holes as (None, length)."""
        fields, children = entry["fields"], entry["children"]
        if 1 in fields:
            yield fields[1], len(fields[1])
        elif 3 in fields:
            reader = Reader(fields[3])
            child, offset, length = reader.varint(), reader.varint(), reader.varint()
            yield self.record(*children[child])[0][offset:offset + length], length
        else:
            if 5 in fields:
                reader, pieces = Reader(fields[5]), []
                while reader.more():
                    pieces.append((children[reader.varint()], reader.varint()))
            elif 7 in fields:
                reader = Reader(fields[7])
                child = children[reader.varint()]
                pieces = self.pieces(child, reader.varint(), entry["agent"])
            else:
                pieces = []
            at, holes = 0, [h for h in self.holes(entry) if h[1] - h[0] >= 1 << 20]
            for reference, length in pieces:
                while holes and holes[0][0] == at:
                    yield None, holes[0][1] - at
                    at = holes.pop(0)[1]
                plain = self.record(*reference)[0]
                if len(plain) != length:
                    raise Damaged("chunk of %d bytes, not %d" % (len(plain), length))
                yield plain, length
                at += length
            for start, end in holes:
                yield None, end - start


# --- Commands -------------------------------------------------------------------------------------

TYPES = {1: stat.S_IFREG, 2: stat.S_IFDIR, 3: stat.S_IFLNK, 4: stat.S_IFIFO, 5: stat.S_IFSOCK, 6: stat.S_IFCHR, 7: stat.S_IFBLK}


def print_keys(repository, content_keys):
    repository.read_packs()
    for label, key in repository.keys.items():
        print(label, key.hex())
    for name in repository.snapshots():
        for entry in repository.entries(*repository.manifest(name)):
            for _ in repository.content(entry) if entry["type"] == 1 and len(repository.content_keys) < 4 * content_keys else []:
                pass
    # Evenly from all of them.
    found = sorted(repository.content_keys.items())
    step = max(1, len(found) // content_keys)
    for record_id, key in found[::step][:content_keys]:
        print("content-key-of-%s" % record_id.hex()[:12], key.hex())


def print_entries(repository, name):
    repository.read_packs()
    for entry in repository.entries(*repository.manifest(name)):
        print("%d %04o %12d %r" % (entry["type"], entry["mode"], entry["size"], entry["path"]))


def check(repository, name, directory):
    repository.read_packs()
    directory = os.fsencode(directory)
    problems, seen, keys = [], set(), []
    for entry in repository.entries(*repository.manifest(name)):
        path = entry["path"]
        if path in seen:
            problems.append("%r comes twice" % path)
        seen.add(path)
        components = path.split(b"/") if path else []
        keys.append(b"\0".join(components[:-1]) + b"\0\0" + components[-1] if components else b"")
        st = os.lstat(os.path.join(directory, path) if path else directory)
        full = os.path.join(directory, path)
        for what, stored, real in (("type", TYPES[entry["type"]], stat.S_IFMT(st.st_mode)), ("mode", entry["mode"], stat.S_IMODE(st.st_mode)),
                                   ("mtime", entry["mtime"], st.st_mtime_ns), ("uid", entry["uid"], st.st_uid), ("gid", entry["gid"], st.st_gid)):
            if stored != real:
                problems.append("%r: %s is %s, not %s" % (path, what, stored, real))
        real = {os.fsencode(n): os.getxattr(full, n, follow_symlinks=False) for n in os.listxattr(full, follow_symlinks=False)}
        if repository.xattrs(entry) != real:
            problems.append("%r: xattrs %s, not %s" % (path, sorted(repository.xattrs(entry)), sorted(real)))
        if entry["type"] == 3 and entry["fields"].get(11) != os.readlink(full):
            problems.append("%r: link target" % path)
        if entry["type"] == 1:
            at = 0
            with open(full, "rb") as file:
                for block, length in repository.content(entry):
                    if block is None:
                        block = bytes(length) if length < 64 << 20 else None
                    file.seek(at)
                    if block is not None and file.read(length) != block:
                        problems.append("%r: content at %d" % (path, at))
                    at += length
            if at != st.st_size or entry["size"] != st.st_size:
                problems.append("%r: %d bytes, stored as %d, not %d" % (path, at, entry["size"], st.st_size))
    if keys != sorted(keys):
        problems.append("the entries are not in key order")
    for where, names, files in os.walk(directory):
        for name in names + files:
            if os.path.relpath(os.path.join(where, name), directory) not in seen:
                problems.append("%r is missing" % name)
    for line in problems[:20]:
        print(line)
    if problems:
        sys.exit(1)
    print("format_reader.py: %d entries as documented" % len(seen))


def main():
    # Known answers, so that a mistake here is not taken for one there.
    assert blake3(b"").hex().startswith("af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262")
    assert blake3(bytes(i % 251 for i in range(2049))).hex().startswith("5f4d72f40d7a5f82b15ca2b2e44b1de3")
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("command", choices=["keys", "list", "check"])
    parser.add_argument("repository")
    parser.add_argument("snapshot", nargs="?")
    parser.add_argument("directory", nargs="?")
    parser.add_argument("--content-keys", type=int, default=30)
    options = parser.parse_args()
    repository = Repository(options.repository, os.fsencode(os.environ["HOLDFAST_PASSWORD"]))
    if options.command == "keys":
        print_keys(repository, options.content_keys)
    elif options.command == "list":
        print_entries(repository, options.snapshot)
    else:
        check(repository, options.snapshot, options.directory)


if __name__ == "__main__":
    main()
