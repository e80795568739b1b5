#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "io/torch_file.h"

namespace dither {
namespace {

// tests/golden/make_hostile_torch.py; the corpus of torch_file_fuzz as well.
const std::filesystem::path kFolder =
    std::filesystem::path(DITHER_SOURCE_DIR) / "tests/fuzz/corpus/torch_file_fuzz";

struct Hostile {
  std::string file;
  std::string message;  ///< a part of it
};
void PrintTo(const Hostile& hostile, std::ostream* out) { *out << hostile.file; }

const std::vector<Hostile>& hostile_files() {
  static const std::vector<Hostile> kFiles = {
      {"append_to_a_dict", "appends to something that is not a list"},
      {"big_endian", "byte order 'big', only little-endian files are supported"},
      {"billion_laughs", "'x' is not a tensor"},
      {"build_on_a_list", "sets the state of a plain value"},
      {"build_on_a_tensor",
       "the pickle calls 'torch._utils _rebuild_tensor_v2' as no checkpoint does"},
      {"build_with_a_list", "sets attributes that are not a dictionary"},
      {"cyclic_list", "'x' is not a tensor"},
      {"deep_marks", "values are nested too deeply"},
      {"deep_tuples_as_key", "a dictionary key is not a plain value"},
      {"dtype_constant_that_requires_grad", "'w': F32 has no gradient"},
      {"dtype_is_a_string", "'w': unsupported dtype 'float32'"},
      {"dtype_wider_than_storage", "leaves its storage of 1 elements"},
      {"encode_with_another_codec", "the pickle calls '_codecs encode' as no checkpoint does"},
      {"ext1", "opcode 0x82 is not allowed"},
      {"ext2", "opcode 0x83 is not allowed"},
      {"ext4", "opcode 0x84 is not allowed"},
      {"extents_are_bools", "'w': expected an integer"},
      {"frame_and_protocol_4", "pickle protocol 4, torch writes 2"},
      {"global_below_modelopt_state_is_shared", "the pickle names 'builtins eval'"},
      {"global_dotted_name", "the pickle names 'torch serialization.os.system'"},
      {"global_eval", "the pickle names 'builtins eval'"},
      {"global_of_torch_that_runs_code", "the pickle names 'torch.hub load'"},
      {"global_os_system", "the pickle names 'os system'"},
      {"global_posix_system_unreferenced", "the pickle names 'posix system'"},
      {"global_with_carriage_return", "the pickle names 'torch\\x0d FloatStorage\\x0d'"},
      {"inst", "opcode 0x69 is not allowed"},
      {"integers_that_require_grad", "'w': I64 has no gradient"},
      {"legacy_big_endian", "only little-endian files are supported"},
      {"legacy_call_in_keys", "the list of storage keys is more than plain values"},
      {"legacy_count_negative", "storage '0' has 18446744073709551614 elements"},
      {"legacy_count_overflows", "storage '0' has 4611686018427387906 elements"},
      {"legacy_count_too_large", "storage '0' has 3 elements"},
      {"legacy_count_too_small", "4 bytes behind the last storage"},
      {"legacy_global_in_header", "the system info is more than plain values"},
      {"legacy_key_twice", "storage '0' occurs twice"},
      {"legacy_trailing_bytes", "1 bytes behind the last storage"},
      {"legacy_unknown_key", "storage key '7' is not used by the object"},
      {"legacy_view", "malformed storage reference"},
      {"list_as_key", "a dictionary key is not a plain value"},
      {"long4", "opcode 0x8B is not allowed"},
      {"long_of_255_bytes", "an integer of 255 bytes"},
      {"mark_open_at_stop", "a group is left open at STOP"},
      {"memo_never_stored", "memo entry 99 was never stored"},
      {"name_is_an_integer", "a state dict key is not a string"},
      {"name_occurs_twice", "'w' occurs twice"},
      {"name_without_end", "the pickle ends in the middle of a value"},
      {"negated_tensor", "'w': tensor metadata is not supported"},
      {"newobj_ex", "opcode 0x92 is not allowed"},
      {"newobj_of_a_function",
       "the pickle calls 'torch._utils _rebuild_tensor_v2' as no checkpoint does"},
      {"newobj_of_a_parameter",
       "the pickle calls 'torch.nn.parameter Parameter' as no checkpoint does"},
      {"obj", "opcode 0x6F is not allowed"},
      {"offset_beyond_storage", "leaves its storage of 2 elements"},
      {"offset_negative", "leaves its storage of 2 elements"},
      {"offset_overflows", "leaves its storage of 2 elements"},
      {"persistent_id_integer", "value 25: malformed storage reference"},
      {"persistent_id_of_a_module", "value 28: malformed storage reference"},
      {"pickle_without_stop", "the pickle ends in the middle of a value"},
      {"plain_pickle", "neither a zip archive nor a legacy file of torch.save"},
      {"reduce_of_a_dtype", "the pickle calls 'torch float32' as no checkpoint does"},
      {"reduce_of_a_result", "calls something that has no name"},
      {"reduce_of_a_storage_type", "the pickle calls 'torch FloatStorage' as no checkpoint does"},
      {"reduce_of_untyped_storage",
       "the pickle calls 'torch.storage UntypedStorage' as no checkpoint does"},
      {"reduce_without_a_tuple", "calls without an argument tuple"},
      {"setitem_on_a_list", "sets a key of something that is not a dictionary"},
      {"setitem_on_a_tensor", "sets a key of something that is not a dictionary"},
      {"size_and_stride_differ_in_rank", "'w': 2 extents but 1 strides"},
      {"size_negative", "'w': negative extent or stride -2"},
      {"size_of_1000_dimensions", "'w': expected a tuple of at most 8 integers"},
      {"size_product_overflows", "leaves its storage of 2 elements"},
      {"stack_global", "opcode 0x93 is not allowed"},
      {"state_dict_is_a_list", "does not hold a state dict"},
      {"storage_key_traverses", "'w': storage '../version' is missing"},
      {"storage_missing", "'w': storage '1' is missing"},
      {"storage_size_negative", "'w': malformed storage reference"},
      {"storage_size_overflows", "'w': storage '0' should hold 4611686018427387906 elements"},
      {"storage_size_too_large", "'w': storage '0' should hold 3 elements"},
      {"storage_size_too_small", "'w': storage '0' should hold 1 elements"},
      {"storage_type_confusion", "'x': storage '0' should hold 2 elements"},
      {"storage_type_is_a_dtype", "'w': unknown storage type 'torch float32'"},
      {"storage_view_metadata", "'w': malformed storage reference"},
      {"stride_0_expansion", "'w': 1099511627776 elements expanded from 2"},
      {"stride_beyond_storage", "leaves its storage of 2 elements"},
      {"stride_negative", "'w': negative extent or stride -1"},
      {"stride_overflows", "leaves its storage of 2 elements"},
      {"string_longer_than_the_file", "a string of 4294967280 bytes"},
      {"string_not_utf8", "a string is not valid UTF-8"},
      {"string_of_8_bytes_length", "opcode 0x8D is not allowed"},
      {"tar", "neither a zip archive nor a legacy file of torch.save"},
      {"text_integer", "opcode 0x49 is not allowed"},
      {"text_persistent_id", "opcode 0x50 is not allowed"},
      {"torchscript", "a TorchScript archive (record 'constants.pkl')"},
      {"torchscript_code", "a TorchScript archive (record 'code/__torch__/Net.py')"},
      {"untyped_storage_without_dtype", "'w': an untyped storage without a dtype"},
      {"zip64_directory_offset", "does not end at byte"},
      {"zip64_entries", "1099511627776 zip members, the limit is 200000"},
      {"zip64_field_overflows", "reach into the directory"},
      {"zip64_field_truncated", "'a/data/0': damaged extra field"},
      {"zip64_record_elsewhere", "no zip64 end record"},
      {"zip64_record_size", "no zip64 end record"},
      {"zip64_size_without_field", "reach into the directory"},
      {"zip64_two_disks", "zip archives over several disks are not supported"},
      {"zip_bomb", "'a/data/0' is compressed"},
      {"zip_comment_with_end_record", "no zip end record"},
      {"zip_deflated_member", "'a/data.pkl' is compressed"},
      {"zip_directory_attribute", "'a/data/0' is a directory"},
      {"zip_directory_beyond_file", "does not end at byte"},
      {"zip_duplicate_but_for_case", "zip member 'a/DATA.PKL' occurs twice"},
      {"zip_duplicate_member", "zip member 'a/data.pkl' occurs twice"},
      {"zip_encrypted_member", "'a/data/0' is encrypted"},
      {"zip_end_record_in_comment_of_another", "does not end at byte"},
      {"zip_entry_count_too_large", "entry 4 at byte 533 is damaged"},
      {"zip_entry_count_too_small", "55 unused bytes in the zip directory"},
      {"zip_local_name_differs", "'a/data/0' has another name in its local header"},
      {"zip_member_beyond_file", "lies beyond the file"},
      {"zip_member_on_another_disk", "'a/data/0' is on another disk"},
      {"zip_member_reaches_into_directory", "reach into the directory"},
      {"zip_name_absolute", "zip member 4 has an unsafe name '/etc/passwd'"},
      {"zip_name_empty", "zip member 4 has an unsafe name ''"},
      {"zip_name_not_utf8", "zip member 4 has an unsafe name 'a/"},
      {"zip_name_traverses", "zip member 4 has an unsafe name 'a/../../etc/passwd'"},
      {"zip_name_with_backslash", "zip member 4 has an unsafe name 'a\\..\\x'"},
      {"zip_name_with_escape_sequence",
       R"(zip member 4 has an unsafe name 'a/\x1b[2Kdata\x0d\x0a')"},
      {"zip_name_with_nul", "zip member 4 has an unsafe name 'a/data/1\\x00.txt'"},
      {"zip_no_pickle", "no data.pkl record: not written by torch.save"},
      {"zip_no_version", "no version record: not written by torch.save"},
      {"zip_overlapping_members", "'a/data/0x' has another name in its local header"},
      {"zip_patch_member", "'a/data/0' is patch data"},
      {"zip_quoted_overlap", "'a/data/x' overlaps what follows it"},
      {"zip_record_in_upper_case", "record '.DATA/version' is not in lower case"},
      {"zip_record_outside_prefix", "record 'b/data/0' is outside 'a/'"},
      {"zip_second_disk", "zip archives over several disks are not supported"},
      {"zip_truncated", "no zip end record"},
      {"zip_two_archives_in_one", "two data.pkl records"},
      {"zip_version_of_the_future", "record 'version' does not say a version from 1 to 10"}};
  return kFiles;
}

class HostileTorchFile : public testing::TestWithParam<Hostile> {};

TEST_P(HostileTorchFile, IsRefused) {
  const auto path = kFolder / (GetParam().file + ".pt");
  try {
    TorchFile::open(path);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::StartsWith(path.string()));
    EXPECT_THAT(error.what(), testing::HasSubstr(GetParam().message));
  }
}

INSTANTIATE_TEST_SUITE_P(Table, HostileTorchFile, testing::ValuesIn(hostile_files()),
                         [](const auto& tested) { return tested.param.file; });

// What the hostile files are before their one lie.
TEST(HostileTorchFiles, ControlsAreAccepted) {
  for (const char* name :
       {"control_is_accepted", "control_zip64_is_accepted", "control_legacy_is_accepted"}) {
    const auto file = TorchFile::open(kFolder / (std::string(name) + ".pt"), TorchGlobals::kTorch);
    const Tensor w = file->read("w");
    EXPECT_EQ(w.shape(), Shape({2})) << name;
    EXPECT_EQ(w.data<float>()[1], 2.0F) << name;
  }
}

TEST(HostileTorchFiles, TableHasEveryFile) {
  std::set<std::string> known = {"dtypes", "views", "legacy"};
  for (const Hostile& hostile : hostile_files()) known.insert(hostile.file);
  for (const auto& entry : std::filesystem::directory_iterator(kFolder)) {
    const std::string name = entry.path().stem();
    EXPECT_TRUE(name.starts_with("control_") || known.contains(name)) << name;
  }
}

// A class that torch does not know, below "modelopt_state": inert by default, refused on request.
TEST(HostileTorchFiles, OnlyModelOptStateMayNameOtherGlobals) {
  const auto path = kFolder / "control_modelopt_global.pt";
  EXPECT_EQ(TorchFile::open(path)->tensors().size(), 1U);
  try {
    TorchFile::open(path, TorchGlobals::kTorch);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(),
                testing::HasSubstr("'modelopt.torch.quantization.calib MaxCalibrator'"));
  }
}

}  // namespace
}  // namespace dither
