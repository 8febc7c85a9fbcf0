"""criu's own account of a dump: the file stats-dump in its work directory."""
import struct

HEADER = 12  # two magic numbers, the size of the one entry
FIELDS = {1: "freezing", 2: "frozen", 3: "memdump", 4: "memwrite"}  # dump_stats_entry, in microseconds


def numbers(data):
    """(field, value) of a message of protocol buffers; a value is a number or bytes. Only the kinds that this one has."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
    while at < len(data):
        key = varint()
        value = varint()
        if key & 7 == 2:
            value, at = data[at:at + value], at + value
        yield key >> 3, value


def dump_statistics(path):
    """Name -> milliseconds."""
    with open(path, "rb") as file:
        data = file.read()
    size, = struct.unpack_from("<I", data, HEADER - 4)
    entry = dict(numbers(data[HEADER:HEADER + size]))
    return {FIELDS[field]: value / 1e3 for field, value in numbers(entry[1]) if field in FIELDS}
