#!/usr/bin/env python3
"""Hostile .pt files for the tests of the reader, one an attack, by the standard library only.

    python make_hostile_torch.py OUT

Each file is what torch.save would write for {"w": two float32 values}, but for the one thing that
its name says. torch_hostile_test.cc states how each is refused. Nothing in them runs anything
dangerous: a pickle that gets executed after all would only call print.
"""
import pathlib
import struct
import sys

STORED, DEFLATED = 0, 8
VALUES = struct.pack("<2f", 1.0, 2.0)
LEGACY_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
FILES = {}


def hostile(function):
    FILES[function.__name__] = function
    return function


# ---- pickle, protocol 2

def text(value):
    raw = value if isinstance(value, bytes) else value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def integer(value):
    if 0 <= value < 256:
        return b"K" + bytes([value])
    raw = value.to_bytes(8, "little", signed=True)
    return b"\x8a\x08" + raw


def integers(*values):
    return b"(" + b"".join(map(integer, values)) + b"t"


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


def storage(kind=("torch", "FloatStorage"), key="0", numel=2, location="cpu", extra=b""):
    return (b"(" + text("storage") + name(*kind) + text(key) + text(location) + integer(numel) +
            extra + b"tQ")


EMPTY_MAP = name("collections", "OrderedDict") + b")R"


def tensor(source=None, offset=0, size=(2,), stride=(1,), grad=b"\x89", hooks=EMPTY_MAP,
           function="_rebuild_tensor_v2", extra=b""):
    return (name("torch._utils", function) + b"(" + (source or storage()) + integer(offset) +
            integers(*size) + integers(*stride) + grad + hooks + extra + b"tR")


def state(*items):
    """A pickle of a dict: key, value, ..."""
    return b"\x80\x02}(" + b"".join(items) + b"u."


def weights(value=None, *more):
    return state(text("w"), value or tensor(), *more)


def beside(value):
    """Another value beside the weights, which a reader of the weights alone would not look at."""
    return state(text("model_state_dict"), b"}" + text("w") + tensor() + b"s", text("x"), value)


# ---- zip

class Member:
    def __init__(self, name_, data, **lies):
        self.name, self.data = name_, data
        self.size = lies.get("size", len(data))
        self.packed = lies.get("packed", self.size)
        self.method, self.flags = lies.get("method", STORED), lies.get("flags", 0)
        self.local_name = lies.get("local_name", name_)
        self.offset = lies.get("offset")  # None: where it lies
        self.attributes, self.disk = lies.get("attributes", 0), lies.get("disk", 0)
        self.extra = lies.get("extra", b"")


def archive(members, comment=b"", entries=None, directory_offset=None, disks=0, tail=b""):
    out, directory = b"", b""
    for m in members:
        offset = len(out) if m.offset is None else m.offset
        name_, local = m.name.encode("latin1"), m.local_name.encode("latin1")
        out += struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, m.flags, m.method, 0, 0, 0, len(m.data),
                           len(m.data), len(local), 0) + local + m.data
        directory += struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 20, 20, m.flags, m.method, 0, 0,
                                 0, m.packed, m.size, len(name_), len(m.extra), 0, m.disk, 0,
                                 m.attributes, offset) + name_ + m.extra
    begin = len(out) if directory_offset is None else directory_offset
    count = len(members) if entries is None else entries
    return out + directory + tail + struct.pack(
        "<IHHHHIIH", 0x06054B50, disks, 0, count, count, len(directory), begin,
        len(comment)) + comment


def contents(pickle, values=VALUES):
    return [Member("a/data.pkl", pickle), Member("a/byteorder", b"little"),
            Member("a/data/0", values), Member("a/version", b"3\n")]


def with_pickle(pickle):
    return archive(contents(pickle))


def with_members(*members, pickle=None):
    return archive(contents(pickle or weights()) + list(members))


def zip64_end(**lies):
    """The end records of zip64, between directory and end record."""
    plain = archive(contents(weights()))
    directory_size, directory_offset = struct.unpack_from("<II", plain, len(plain) - 10)
    entries = lies.get("entries", 4)
    record = struct.pack("<IQHHIIQQQQ", 0x06064B50, lies.get("record_size", 44), 45, 45, 0, 0,
                         entries, entries, directory_size,
                         lies.get("directory_offset", directory_offset))
    locator = struct.pack("<IIQI", 0x07064B50, 0, lies.get("record_offset", len(plain) - 22),
                          lies.get("disks", 1))
    return plain[:-22] + record + locator + plain[-22:]


# ---- the ways to name and call something

@hostile
def control_is_accepted():
    return with_pickle(weights())


@hostile
def control_zip64_is_accepted():
    return zip64_end()


@hostile
def control_legacy_is_accepted():
    return legacy()


@hostile
def control_modelopt_global():
    """What ModelOpt may leave in its state: an object of a class of its own."""
    calibrator = name("modelopt.torch.quantization.calib", "MaxCalibrator") + b")\x81}" + text(
        "num_bits") + integer(8) + b"sb"
    return with_pickle(state(text("modelopt_state"), b"}" + text("c") + calibrator + b"s",
                             text("model_state_dict"), b"}" + text("w") + tensor() + b"s"))


@hostile
def global_eval():
    return with_pickle(weights(name("builtins", "eval") + b"(" + text("print(1)") + b"tR"))


@hostile
def global_os_system():
    return with_pickle(beside(name("os", "system")))


@hostile
def global_posix_system_unreferenced():
    """Built, stored in the memo and overwritten: nothing refers to it."""
    return with_pickle(b"\x80\x02}(" + text("x") + name("posix", "system") + text("x") +
                       b"N" + text("w") + tensor() + b"u.")


@hostile
def global_dotted_name():
    return with_pickle(weights(tensor(), text("x"), name("torch", "serialization.os.system")))


@hostile
def global_of_torch_that_runs_code():
    """A function inside torch that compiles or loads what it is given."""
    return with_pickle(weights(tensor(), text("x"), name("torch.hub", "load") + b")R"))


@hostile
def global_with_carriage_return():
    return with_pickle(weights(tensor(), text("x"), b"ctorch\r\nFloatStorage\r\n"))


@hostile
def inst():
    return with_pickle(weights(tensor(), text("x"), b"(" + text("1") + b"ibuiltins\nprint\n"))


@hostile
def obj():
    return with_pickle(weights(tensor(), text("x"), b"(" + name("builtins", "print") + b"o"))


@hostile
def stack_global():
    return with_pickle(weights(tensor(), text("x"), text("builtins") + text("print") + b"\x93"))


@hostile
def ext1():
    return with_pickle(weights(tensor(), text("x"), b"\x82\x01"))


@hostile
def ext2():
    return with_pickle(weights(tensor(), text("x"), b"\x83\x01\x00"))


@hostile
def ext4():
    return with_pickle(weights(tensor(), text("x"), b"\x84\x01\x00\x00\x00"))


@hostile
def newobj_ex():
    return with_pickle(weights(tensor(), text("x"), EMPTY_MAP + b")}\x92"))


@hostile
def newobj_of_a_function():
    return with_pickle(beside(name("torch._utils", "_rebuild_tensor_v2") + b")\x81"))


@hostile
def newobj_of_a_parameter():
    return with_pickle(beside(name("torch.nn.parameter", "Parameter") + b")\x81"))


@hostile
def reduce_of_a_dtype():
    return with_pickle(beside(name("torch", "float32") + b")R"))


@hostile
def reduce_of_a_storage_type():
    return with_pickle(beside(name("torch", "FloatStorage") + b"K\x01\x85R"))


@hostile
def reduce_of_untyped_storage():
    """Would allocate what it is told to."""
    return with_pickle(beside(name("torch.storage", "UntypedStorage") +
                              integer(2**60) + b"\x85R"))


@hostile
def reduce_of_a_result():
    return with_pickle(beside(EMPTY_MAP + b")R"))


@hostile
def reduce_without_a_tuple():
    return with_pickle(weights(tensor(), text("x"), name("collections", "OrderedDict") + b"]R"))


@hostile
def encode_with_another_codec():
    return with_pickle(beside(name("_codecs", "encode") + b"(" + text("eA") +
                              text("base64") + b"tR"))


@hostile
def build_on_a_tensor():
    """torch would call set_ with the state: another storage under the same name."""
    return with_pickle(weights(tensor() + b"(" + storage() + integers(0) + b"tb"))


@hostile
def build_on_a_list():
    return with_pickle(weights(tensor(), text("x"), b"]}b"))


@hostile
def build_with_a_list():
    return with_pickle(weights(tensor(), text("x"), EMPTY_MAP + b"]b"))


@hostile
def setitem_on_a_tensor():
    return with_pickle(weights(tensor() + integer(0) + integer(1) + b"s"))


@hostile
def setitem_on_a_list():
    return with_pickle(weights(tensor(), text("x"), b"]K\x00K\x01s"))


@hostile
def append_to_a_dict():
    return with_pickle(weights(tensor(), text("x"), b"}Na"))


@hostile
def frame_and_protocol_4():
    pickle = weights()
    return with_pickle(b"\x80\x04\x95" + struct.pack("<Q", len(pickle) - 2) + pickle[2:])


@hostile
def text_persistent_id():
    return with_pickle(weights(tensor(), text("x"), b"P0\n"))


@hostile
def persistent_id_of_a_module():
    """The legacy form's way to show source code of a container."""
    return with_pickle(beside(b"(" + text("module") + text("f") + text("s") +
                              b"tQ"))


@hostile
def persistent_id_integer():
    return with_pickle(beside(integer(0) + b"Q"))


@hostile
def global_below_modelopt_state_is_shared():
    """Inert below modelopt_state, but the state dict refers to it as well."""
    return with_pickle(state(text("modelopt_state"), b"}" + text("x") + name("builtins", "eval") +
                             b"q\x01s", text("model_state_dict"), b"}" + text("w") + b"h\x01s"))


# ---- sizes and depth

@hostile
def memo_never_stored():
    return with_pickle(weights(tensor(), text("x"), b"h\x63"))


@hostile
def deep_marks():
    return with_pickle(b"\x80\x02" + b"(" * 5000)


@hostile
def deep_tuples_as_key():
    """Hashing it takes 2^64 steps."""
    key = b")" + b"q\x00h\x00\x86" * 64
    return with_pickle(weights(tensor(), key, b"N"))


@hostile
def billion_laughs():
    """Ten references to ten references to ... Ten levels are few values, and no tensor."""
    level = b"]"
    for _ in range(10):
        level = b"](" + level + b"q\x00" + b"h\x00" * 9 + b"e"
    return with_pickle(weights(tensor(), text("x"), level))


@hostile
def cyclic_list():
    return with_pickle(weights(tensor(), text("x"), b"]q\x00h\x00a"))


@hostile
def string_longer_than_the_file():
    return with_pickle(b"\x80\x02X" + struct.pack("<I", 0xFFFFFFF0) + b"abc")


@hostile
def string_of_8_bytes_length():
    return with_pickle(b"\x80\x02\x8d" + struct.pack("<Q", 2**62) + b"abc")


@hostile
def long_of_255_bytes():
    return with_pickle(weights(tensor(), text("x"), b"\x8a\xff" + b"\xff" * 255))


@hostile
def long4():
    return with_pickle(weights(tensor(), text("x"), b"\x8b" + struct.pack("<i", 2**31 - 1)))


@hostile
def text_integer():
    """Decimal digits, whose conversion takes quadratic time."""
    return with_pickle(weights(tensor(), text("x"), b"I" + b"9" * 2000 + b"\n"))


@hostile
def name_without_end():
    return with_pickle(b"\x80\x02c" + b"a" * 3000)


@hostile
def string_not_utf8():
    return with_pickle(weights(tensor(), text(b"\xc0\x80"), b"N"))


@hostile
def pickle_without_stop():
    return with_pickle(weights()[:-1])


@hostile
def mark_open_at_stop():
    return with_pickle(b"\x80\x02(}.")


@hostile
def list_as_key():
    return with_pickle(weights(tensor(), b"]", b"N"))


# ---- tensors

@hostile
def storage_size_too_large():
    return with_pickle(weights(tensor(storage(numel=3))))


@hostile
def storage_size_too_small():
    return with_pickle(weights(tensor(storage(numel=1))))


@hostile
def storage_size_overflows():
    return with_pickle(weights(tensor(storage(numel=2**62 + 2))))


@hostile
def storage_size_negative():
    return with_pickle(weights(tensor(storage(numel=-2))))


@hostile
def storage_missing():
    return with_pickle(weights(tensor(storage(key="1"))))


@hostile
def storage_key_traverses():
    return with_pickle(weights(tensor(storage(key="../version"))))


@hostile
def storage_type_confusion():
    """The same record as float32 and as int64."""
    other = storage(("torch", "LongStorage"))
    return with_pickle(weights(tensor(), text("x"), tensor(other)))


@hostile
def storage_type_is_a_dtype():
    return with_pickle(weights(tensor(storage(("torch", "float32")))))


@hostile
def storage_view_metadata():
    return with_pickle(weights(tensor(storage(extra=b"N"))))


@hostile
def untyped_storage_without_dtype():
    return with_pickle(weights(tensor(storage(("torch.storage", "UntypedStorage"), numel=8))))


@hostile
def dtype_is_a_string():
    return with_pickle(weights(tensor(function="_rebuild_tensor_v3", extra=text("float32"))))


@hostile
def dtype_wider_than_storage():
    return with_pickle(weights(tensor(function="_rebuild_tensor_v3",
                                      extra=name("torch", "float64"))))


@hostile
def offset_beyond_storage():
    return with_pickle(weights(tensor(offset=1)))


@hostile
def offset_negative():
    return with_pickle(weights(tensor(offset=-1)))


@hostile
def offset_overflows():
    return with_pickle(weights(tensor(offset=2**63 - 1)))


@hostile
def size_negative():
    return with_pickle(weights(tensor(size=(-2,))))


@hostile
def size_product_overflows():
    return with_pickle(weights(tensor(size=(2**32, 2**32), stride=(0, 0))))


@hostile
def size_and_stride_differ_in_rank():
    return with_pickle(weights(tensor(size=(2, 1))))


@hostile
def size_of_1000_dimensions():
    return with_pickle(weights(tensor(size=(1,) * 1000, stride=(1,) * 1000)))


@hostile
def stride_beyond_storage():
    return with_pickle(weights(tensor(stride=(2,))))


@hostile
def stride_negative():
    return with_pickle(weights(tensor(offset=1, stride=(-1,))))


@hostile
def stride_overflows():
    return with_pickle(weights(tensor(size=(3,), stride=(2**62 + 1,))))


@hostile
def stride_0_expansion():
    """Eight bytes that stand for 4 TiB."""
    return with_pickle(weights(tensor(size=(2**40,), stride=(0,))))


@hostile
def extents_are_bools():
    call = (name("torch._utils", "_rebuild_tensor_v2") + b"(" + storage() + integer(0) +
            b"\x88\x85\x88\x85\x89" + EMPTY_MAP + b"tR")
    return with_pickle(weights(call))


@hostile
def integers_that_require_grad():
    return archive(contents(weights(tensor(storage(("torch", "LongStorage"), numel=1), size=(1,),
                                           grad=b"\x88"))))


@hostile
def dtype_constant_that_requires_grad():
    """torch fills such a tensor in place, and refuses itself."""
    return with_pickle(weights(tensor(grad=b"\x88", function="_rebuild_tensor_v3",
                                      extra=name("torch", "float32"))))


@hostile
def negated_tensor():
    """Metadata that says: negate the values when you read them."""
    return with_pickle(weights(tensor(extra=b"}" + text("neg") + b"\x88s")))


@hostile
def name_occurs_twice():
    return with_pickle(weights(tensor(), text("w"), tensor()))


@hostile
def name_is_an_integer():
    return with_pickle(state(integer(1), tensor()))


@hostile
def state_dict_is_a_list():
    return with_pickle(b"\x80\x02](" + tensor() + b"e.")


# ---- zip

@hostile
def zip_truncated():
    return with_pickle(weights())[:-1]


@hostile
def zip_comment_with_end_record():
    """Two end records: which directory counts depends on the reader."""
    end_record = with_pickle(weights(tensor(size=(1,))))[-22:]
    return archive(contents(weights()), comment=end_record + b"x")


@hostile
def zip_end_record_in_comment_of_another():
    return archive(contents(weights()), comment=with_pickle(weights(tensor(size=(1,))))[-22:])


@hostile
def zip_deflated_member():
    import zlib
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(weights()) + packer.flush()
    members = contents(weights())
    members[0] = Member("a/data.pkl", packed, size=len(weights()), packed=len(packed),
                        method=DEFLATED)
    return archive(members)


@hostile
def zip_bomb():
    """Four bytes that claim to be 4 GB."""
    members = contents(weights())
    members[2] = Member("a/data/0", b"\0" * 4, size=0xFFFFFFF0, packed=4, method=DEFLATED)
    return archive(members)


@hostile
def zip_encrypted_member():
    members = contents(weights())
    members[2].flags = 1
    return archive(members)


@hostile
def zip_patch_member():
    members = contents(weights())
    members[2].flags = 0x20
    return archive(members)


@hostile
def zip_directory_attribute():
    """Some readers take the member for a folder and leave their buffer as it was."""
    members = contents(weights())
    members[2].attributes = 0x10
    return archive(members)


@hostile
def zip_duplicate_member():
    return with_members(Member("a/data.pkl", weights(tensor(size=(1,)))))


@hostile
def zip_duplicate_but_for_case():
    return with_members(Member("a/DATA.PKL", weights(tensor(size=(1,)))))


@hostile
def zip_two_archives_in_one():
    return with_members(Member("b/data.pkl", weights(tensor(size=(1,)))))


@hostile
def zip_overlapping_members():
    members = contents(weights()) + [Member("a/data/1", b"")]
    first = len(archive(members[:2])) - 22 - 46 * 2 - len("a/data.pkl" + "a/byteorder")
    members[4] = Member("a/data/0x", b"", offset=first, local_name="a/data/0x")
    return archive(members)


@hostile
def zip_quoted_overlap():
    """A member that holds other members' headers, as overlapping zip bombs do."""
    inner = archive([Member("a/data/0", VALUES)])
    members = contents(weights())
    members[2] = Member("a/data/x", inner)
    begin = sum(30 + len(m.name) + len(m.data) for m in members[:2]) + 30 + len("a/data/x")
    return archive(members + [Member("a/data/0", b"", size=8, offset=begin)])


@hostile
def zip_member_reaches_into_directory():
    members = contents(weights())
    members[3] = Member("a/version", b"3\n", size=60)
    return archive(members)


@hostile
def zip_member_beyond_file():
    members = contents(weights())
    members[2].offset = 0x7FFFFFFF
    return archive(members)


@hostile
def zip_local_name_differs():
    members = contents(weights())
    members[2].local_name = "a/data/9"
    return archive(members)


@hostile
def zip_entry_count_too_large():
    return archive(contents(weights()), entries=9)


@hostile
def zip_entry_count_too_small():
    return archive(contents(weights()), entries=3)


@hostile
def zip_directory_beyond_file():
    return archive(contents(weights()), directory_offset=0x7FFFFFFF)


@hostile
def zip_second_disk():
    return archive(contents(weights()), disks=1)


@hostile
def zip_member_on_another_disk():
    members = contents(weights())
    members[2].disk = 7
    return archive(members)


@hostile
def zip_name_traverses():
    return with_members(Member("a/../../etc/passwd", b""))


@hostile
def zip_name_absolute():
    return with_members(Member("/etc/passwd", b""))


@hostile
def zip_name_with_nul():
    return with_members(Member("a/data/1\0.txt", b""))


@hostile
def zip_name_with_escape_sequence():
    """Printed as it is, it would rewrite the terminal's line."""
    return with_members(Member("a/\x1b[2Kdata\r\n", b""))


@hostile
def zip_name_with_backslash():
    return with_members(Member("a\\..\\x", b""))


@hostile
def zip_name_not_utf8():
    return with_members(Member("a/\xff", b""))


@hostile
def zip_name_empty():
    return with_members(Member("", b""))


@hostile
def zip_record_outside_prefix():
    return with_members(Member("b/data/0", b""))


@hostile
def zip_record_in_upper_case():
    return with_members(Member("a/.DATA/version", b"9"))


@hostile
def zip_no_pickle():
    return archive(contents(weights())[1:])


@hostile
def zip_no_version():
    return archive(contents(weights())[:3])


@hostile
def zip_version_of_the_future():
    return archive(contents(weights())[:3] + [Member("a/version", b"11\n")])


@hostile
def zip64_record_elsewhere():
    return zip64_end(record_offset=2**63)


@hostile
def zip64_record_size():
    return zip64_end(record_size=2**62)


@hostile
def zip64_entries():
    return zip64_end(entries=2**40)


@hostile
def zip64_directory_offset():
    return zip64_end(directory_offset=2**64 - 16)


@hostile
def zip64_two_disks():
    return zip64_end(disks=2)


@hostile
def zip64_size_without_field():
    members = contents(weights())
    members[2] = Member("a/data/0", VALUES, size=0xFFFFFFFF)
    return archive(members)


@hostile
def zip64_field_overflows():
    members = contents(weights())
    size = struct.pack("<HHQQ", 1, 16, 2**64 - 8, 2**64 - 8)
    members[2] = Member("a/data/0", VALUES, size=0xFFFFFFFF, extra=size)
    return archive(members)


@hostile
def zip64_field_truncated():
    members = contents(weights())
    members[2] = Member("a/data/0", VALUES, size=0xFFFFFFFF, extra=struct.pack("<HHI", 1, 16, 8))
    return archive(members)


# ---- other containers

@hostile
def big_endian():
    members = contents(weights())
    members[1] = Member("a/byteorder", b"big")
    return archive(members)


@hostile
def torchscript():
    return with_members(Member("a/constants.pkl", b"\x80\x02)."))


@hostile
def torchscript_code():
    return with_members(Member("a/code/__torch__/Net.py", b"pass"))


@hostile
def tar():
    header = bytearray(512)
    header[:8] = b"storages"
    header[100:108] = b"0000644\0"
    header[124:136] = b"00000000000\0"
    header[148:156] = b" " * 8
    header[156:157] = b"0"
    header[257:265] = b"ustar\x0000"
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + bytes(1024)


@hostile
def plain_pickle():
    return weights(name("builtins", "eval"))


def legacy(info=None, pickle=None, keys=None, count=2, tail=b""):
    if info is None:
        info = b"\x80\x02}(" + text("little_endian") + b"\x88" + b"u."
    view = b"N"
    pickle = pickle or weights(tensor(storage(extra=view)))
    keys = keys or b"\x80\x02]" + text("0") + b"a."
    return (LEGACY_MAGIC + b"\x80\x02M\xe9\x03." + info + pickle + keys +
            struct.pack("<q", count) + VALUES + tail)


@hostile
def legacy_big_endian():
    return legacy(b"\x80\x02}" + text("little_endian") + b"\x89s.")


@hostile
def legacy_global_in_header():
    return legacy(b"\x80\x02}(" + text("little_endian") + b"\x88" + text("x") +
                  name("os", "system") + b"u.")


@hostile
def legacy_call_in_keys():
    return legacy(keys=b"\x80\x02" + name("builtins", "print") + b")R.")


@hostile
def legacy_view():
    view = b"(" + text("v") + integer(0) + integer(1) + b"t"
    return legacy(pickle=weights(tensor(storage(extra=view))))


@hostile
def legacy_count_too_large():
    return legacy(count=3)


@hostile
def legacy_count_overflows():
    return legacy(count=2**62 + 2)


@hostile
def legacy_count_negative():
    return legacy(count=-2)


@hostile
def legacy_count_too_small():
    return legacy(count=1, tail=b"")


@hostile
def legacy_unknown_key():
    return legacy(keys=b"\x80\x02]" + text("7") + b"a.")


@hostile
def legacy_key_twice():
    return legacy(keys=b"\x80\x02](" + text("0") + text("0") + b"e.",
                  tail=struct.pack("<q", 2) + VALUES)


@hostile
def legacy_trailing_bytes():
    return legacy(tail=b"x")


def main():
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    for file_name, make in FILES.items():
        (out / f"{file_name}.pt").write_bytes(make())
    print(len(FILES), "files,", sum((out / f"{n}.pt").stat().st_size for n in FILES), "bytes")


if __name__ == "__main__":
    main()
