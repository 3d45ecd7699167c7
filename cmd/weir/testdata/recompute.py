"""Recomputes the roots of a bag as docs/evidence.md describes it, and checks the
signatures. It shares no code with weir.

    pip install zstandard cryptography
    python recompute.py BAG
"""
import base64
import glob
import hashlib
import json
import os
import struct
import sys

import zstandard
from cryptography.hazmat.primitives import serialization

CLASSES = ["unexplained", "control", "aborted", "compacted", "retention"]


def text(s):
    return data(s.encode())


def data(b):
    return struct.pack(">I", 0xFFFFFFFF) if b is None else struct.pack(">I", len(b)) + b


def member(line, name):
    if name + "_base64" in line:
        return base64.b64decode(line[name + "_base64"])
    return line[name].encode() if name in line else None


def value(raw, line):
    if "event" not in line:
        return member(line, "value")
    # As it came: the event is the last member of its line, and within a string these
    # quotes would be escaped.
    start = b',"event":'
    return raw[raw.index(start) + len(start):-1]


def origin(kind, cluster, topic_id, topic, partition):
    return kind + b"\x01" + text(cluster) + text(topic_id) + text(topic) + struct.pack(">i", partition)


def record(raw):
    line = json.loads(raw)
    appended = line.get("timestamp_type") == "LogAppendTime"
    b = origin(b"R", line["cluster"], line["topic_id"], line["topic"], line["partition"])
    b += struct.pack(">qBq", line["offset"], appended, line.get("timestamp", -1))
    headers = line.get("headers", [])
    b += data(member(line, "key")) + struct.pack(">I", len(headers))
    for h in headers:
        b += data(member(h, "key")) + data(member(h, "value"))
    return line["offset"], hashlib.sha256(b"\0" + b + data(value(raw, line))).digest()


def told(file):  # later lines count, and neighbours of one class are one gap
    if not os.path.exists(file):
        return None
    offsets = {}
    for line in open(file):
        begin, end, kind = line.split()
        for o in range(int(begin), int(end)):
            offsets[o] = kind
    gaps = []
    for o in sorted(offsets):
        if gaps and gaps[-1]["to"] == o and gaps[-1]["class"] == offsets[o]:
            gaps[-1]["to"] += 1
        else:
            gaps.append({"from": o, "to": o + 1, "class": offsets[o]})
    return gaps


def root(leaves):  # RFC 6962, 2.1
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\1" + root(leaves[:k]) + root(leaves[k:])).digest()


def main(bag):
    envelope = json.load(open(os.path.join(bag, "weir/manifest.dsse.json")))
    payload = base64.b64decode(envelope["payload"])
    kind = envelope["payloadType"]
    key = serialization.load_pem_public_key(open(os.path.join(bag, "weir/public-key.pem"), "rb").read())
    signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
    key.verify(base64.b64decode(envelope["signatures"][0]["sig"]), signed)
    manifest = json.loads(payload)

    out = {}
    for topic in manifest["topics"]:
        for p in topic["partitions"]:
            name = "%s/%d" % (topic["name"], p["partition"])
            leaves = {}
            for file in glob.glob(os.path.join(bag, "data", name, "*.ndjson.zst")):
                with open(file, "rb") as f:
                    content = zstandard.ZstdDecompressor().stream_reader(f, read_across_frames=True).read()
                for raw in content.splitlines():
                    offset, leaf = record(raw)
                    leaves[offset] = leaf
            missing = lambda o: any(g["from"] <= o < g["to"] for g in p["gaps"]["listed"])
            out[name] = root([leaves[o] for o in sorted(leaves) if not missing(o)]).hex()
            rescued = [leaves[o] for o in sorted(leaves) if missing(o)]
            if rescued or "rescued" in p:
                assert p["rescued"] == {"size": len(rescued), "root": root(rescued).hex()}, name
            gaps = []
            for g in told(os.path.join(bag, "weir/gaps", name + ".txt")) or p["gaps"]["listed"]:
                b = origin(b"G", manifest["cluster"], topic["id"], topic["name"], p["partition"])
                b += struct.pack(">qqB", g["from"], g["to"], CLASSES.index(g["class"]))
                gaps.append(hashlib.sha256(b"\0" + b).digest())
            out[name + "/gaps"] = root(gaps).hex()

            for tree, seal in (("records", p["records"]), ("gaps", p["gaps"])):
                note = open(os.path.join(bag, "weir/checkpoints", name, tree + ".txt"), encoding="utf-8").read()
                body, _, signature = note.rpartition("\n\n")
                body += "\n"
                _, size, head = body.splitlines()
                assert int(size) == seal["size"] and base64.b64decode(head).hex() == seal["root"], name
                key.verify(base64.b64decode(signature.split(" ")[2])[4:], body.encode())
    json.dump(out, sys.stdout)


main(sys.argv[1])
