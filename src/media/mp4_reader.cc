#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "media/h264.h"
#include "media/h264_sps.h"
#include "media/video_formats.h"

namespace dither {
namespace {

/// A box, or the file itself: its content, read from the front.
class Box {
 public:
  Box(std::string_view name, std::string type, std::size_t at, std::span<const std::byte> content)
      : name_(name), type_(std::move(type)), at_(at), rest_(content) {}

  const std::string& type() const { return type_; }
  std::size_t left() const { return rest_.size(); }
  bool done() const { return rest_.empty(); }
  /// Where what comes next lies in the file.
  std::size_t at() const { return at_; }

  std::span<const std::byte> take(std::size_t bytes) {
    if (bytes > rest_.size()) {
      fail(ErrorCode::kDataLoss, fmt::format("needs {} bytes, has {}", bytes, rest_.size()));
    }
    const auto taken = rest_.first(bytes);
    rest_ = rest_.subspan(bytes);
    at_ += bytes;
    return taken;
  }
  std::uint32_t number(std::size_t bytes) {
    std::uint32_t value = 0;
    for (const std::byte byte : take(bytes))
      value = value << 8 | std::to_integer<std::uint32_t>(byte);
    return value;
  }
  std::uint32_t u8() { return number(1); }
  std::uint32_t u16() { return number(2); }
  std::uint32_t u32() { return number(4); }
  std::string text(std::size_t bytes) {
    const auto taken = take(bytes);
    return {reinterpret_cast<const char*>(taken.data()), taken.size()};
  }

  /// The next box inside.
  Box next() {
    const std::size_t begin = at_;
    const std::uint32_t size = u32();
    std::string type = text(4);
    if (size < 8 || size - 8 > rest_.size()) {
      fail(ErrorCode::kDataLoss, fmt::format("at byte {} a box {} of {} bytes, with {} left", begin,
                                             printable(type), size, rest_.size() + 8));
    }
    const std::size_t content = at_;
    return {name_, std::move(type), content, take(size - 8)};
  }
  /// The next box, which must be of that type.
  Box next(std::string_view type) {
    if (done()) fail(ErrorCode::kDataLoss, fmt::format("has no box '{}'", type));
    const std::size_t begin = at_;
    Box box = next();
    if (box.type_ != type) {
      fail(ErrorCode::kUnsupported, fmt::format("at byte {} a box {} where '{}' is understood",
                                                begin, printable(box.type_), type));
    }
    return box;
  }
  /// The same, with version 0 and any flags, which are left out.
  Box next_full(std::string_view type) {
    Box box = next(type);
    box.expect("version", box.u8(), 0);
    box.take(3);
    return box;
  }
  void expect_end() const {
    if (!done())
      fail(ErrorCode::kUnsupported, fmt::format("{} bytes that are not understood", left()));
  }
  void expect(std::string_view field, std::uint32_t value, std::uint32_t wanted) const {
    if (value == wanted) return;
    fail(ErrorCode::kUnsupported, fmt::format("{} is {}, {} is understood", field, value, wanted));
  }
  [[noreturn]] void fail(ErrorCode code, std::string_view what) const {
    if (type_.empty()) throw Error(code, fmt::format("{}: {}", name_, what));
    throw Error(code, fmt::format("{}: box {}: {}", name_, printable(type_), what));
  }

 private:
  static std::string printable(const std::string& type) {
    const bool plain = std::ranges::all_of(type, [](char c) { return c >= ' ' && c <= '~'; });
    if (plain) return fmt::format("'{}'", type);
    std::string hex = "0x";
    for (const char c : type) hex += fmt::format("{:02x}", static_cast<unsigned char>(c));
    return hex;
  }

  std::string_view name_;
  std::string type_;
  std::size_t at_;
  std::span<const std::byte> rest_;
};

/// The file's structure is exactly that of mp4_writer.cc; numbers may differ.
class Mp4Reader final : public VideoReader {
 public:
  Mp4Reader(std::span<const std::byte> file, std::string_view name) : name_(name), file_(file) {
    Box whole(name_, "", 0, file);
    whole.next("ftyp");
    read_movie(whole.next("moov"));
    const Box data = whole.next("mdat");
    whole.expect_end();
    check_samples(data.at(), data.left());
    for (const auto& set : parameter_sets_.sequence) {
      const H264Size size = parse_sps(set, name_);
      if (size.width != info_.width || size.height != info_.height) {
        whole.fail(ErrorCode::kDataLoss,
                   fmt::format("H.264 pictures of {}x{} in a video of {}x{}", size.width,
                               size.height, info_.width, info_.height));
      }
    }
    decoder_.emplace(parameter_sets_, name_);
  }

  const VideoInfo& info() const override { return info_; }

  std::optional<Image> next() override {
    if (shown_ == info_.frames) return std::nullopt;
    std::optional<Image> image;
    while (!image && next_ < sizes_.size()) {
      image =
          decoder_->decode(file_.subspan(offset_, sizes_[next_]), static_cast<int>(length_bytes_));
      offset_ += sizes_[next_];
      ++next_;
    }
    if (!image) image = decoder_->flush();
    if (!image || image->width != info_.width || image->height != info_.height) {
      throw Error(ErrorCode::kDataLoss,
                  fmt::format("{}: frame {} has {}x{} pixels, the video {} frames of {}x{}", name_,
                              shown_, image ? image->width : 0, image ? image->height : 0,
                              info_.frames, info_.width, info_.height));
    }
    ++shown_;
    return image;
  }

 private:
  void read_movie(Box movie) {
    movie.next_full("mvhd");
    Box track = movie.next("trak");
    track.next_full("tkhd");
    Box media = track.next("mdia");
    track.expect_end();
    Box header = media.next_full("mdhd");
    header.take(8);  // times of creation and modification
    const std::uint32_t timescale = header.u32();
    Box handler = media.next_full("hdlr");
    handler.take(4);
    if (const std::string kind = handler.text(4); kind != "vide") {
      handler.fail(ErrorCode::kUnsupported, "the track is no video");
    }
    Box information = media.next("minf");
    media.expect_end();
    information.next_full("vmhd");
    information.next("dinf");
    Box table = information.next("stbl");
    information.expect_end();
    read_sample_table(table, timescale);
    if (!movie.done()) read_metadata(movie.next_full("meta"));
    movie.expect_end();
  }

  void read_sample_table(Box& table, std::uint32_t timescale) {
    read_description(table.next_full("stsd"));
    Box times = table.next_full("stts");
    times.expect("number of entries", times.u32(), 1);
    const std::uint32_t count = times.u32();
    const std::uint32_t ticks = times.u32();
    times.expect_end();
    if (count < 1 || count > kMaxVideoFrames || ticks == 0 || timescale == 0) {
      times.fail(ErrorCode::kUnsupported, fmt::format("{} frames of {} / {} s; 1 to {} are read",
                                                      count, ticks, timescale, kMaxVideoFrames));
    }
    info_.frames = static_cast<int>(count);
    info_.fps = static_cast<double>(timescale) / ticks;
    table.next_full("stss");
    Box chunks = table.next_full("stsc");
    for (const std::uint32_t wanted : {1U, 1U, count, 1U}) {
      chunks.expect("a number of the only chunk", chunks.u32(), wanted);
    }
    chunks.expect_end();
    Box sizes = table.next_full("stsz");
    sizes.expect("common size", sizes.u32(), 0);
    sizes.expect("number of samples", sizes.u32(), count);
    if (sizes.left() != std::size_t{4} * count) {
      sizes.fail(ErrorCode::kDataLoss,
                 fmt::format("{} bytes for the sizes of {} samples", sizes.left(), count));
    }
    while (!sizes.done()) sizes_.push_back(sizes.u32());
    Box offsets = table.next_full("stco");
    offsets.expect("number of chunks", offsets.u32(), 1);
    offset_ = offsets.u32();
    offsets.expect_end();
    table.expect_end();
  }

  void read_description(Box description) {
    description.expect("number of entries", description.u32(), 1);
    Box entry = description.next("avc1");
    description.expect_end();
    entry.take(24);  // reserved, data reference, predefined
    const std::uint32_t width = entry.u16();
    const std::uint32_t height = entry.u16();
    if (width < 16 || height < 16 || width > kMaxVideoExtent || height > kMaxVideoExtent) {
      entry.fail(ErrorCode::kUnsupported, fmt::format("{}x{} pixels; 16 to {} a side are read",
                                                      width, height, kMaxVideoExtent));
    }
    info_.width = static_cast<int>(width);
    info_.height = static_cast<int>(height);
    entry.take(50);  // resolution, frames a sample, compressor, depth, colour table
    read_configuration(entry.next("avcC"));
    Box color = entry.next("colr");
    if (const std::string kind = color.text(4); kind != "nclx") {
      color.fail(ErrorCode::kUnsupported, "the colours are not given as 'nclx'");
    }
    for (const char* field : {"primaries", "transfer", "matrix"}) {
      color.expect(field, color.u16(), 1);  // BT.709
    }
    color.expect("full range", color.u8(), 0);
    Box aspect = entry.next("pasp");
    const std::uint32_t horizontal = aspect.u32();
    aspect.expect("vertical spacing", aspect.u32(), horizontal);
    entry.expect_end();
  }

  void read_configuration(Box box) {
    box.expect("version", box.u8(), 1);
    box.take(3);  // profile, compatibility, level: again in the set
    length_bytes_ = (box.u8() & 3U) + 1;
    if (length_bytes_ == 3) box.fail(ErrorCode::kDataLoss, "lengths of 3 bytes");
    const auto read_sets = [&](std::uint32_t count, auto& sets) {
      for (std::uint32_t i = 0; i < count; ++i) {
        const auto set = box.take(box.u16());
        sets.emplace_back(set.begin(), set.end());
      }
    };
    const std::uint32_t sequences = box.u8() & 0x1FU;
    box.expect("number of sequence parameter sets", sequences, 1);
    read_sets(sequences, parameter_sets_.sequence);
    const std::uint32_t pictures = box.u8();
    box.expect("number of picture parameter sets", pictures, 1);
    read_sets(pictures, parameter_sets_.picture);
  }

  void read_metadata(Box meta) {
    meta.next_full("hdlr");
    Box keys = meta.next_full("keys");
    const std::uint32_t count = keys.u32();
    std::vector<std::string> names;
    while (!keys.done()) {
      Box key = keys.next("mdta");
      names.push_back(key.text(key.left()));
    }
    keys.expect("number of keys", count, static_cast<std::uint32_t>(names.size()));
    Box items = meta.next("ilst");
    for (const std::string& name : names) {
      Box item = items.next();
      Box data = item.next("data");
      data.expect("kind", data.u32(), 1);  // UTF-8
      data.take(4);
      info_.text.emplace_back(name, data.text(data.left()));
    }
    items.expect_end();
    meta.expect_end();
  }

  /// That the samples fill `mdat`.
  void check_samples(std::size_t begin, std::size_t bytes) const {
    std::uint64_t sum = 0;
    for (const std::uint32_t size : sizes_) sum += size;
    if (offset_ == begin && sum == bytes) return;
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: samples of {} bytes from byte {}, but box 'mdat' has {} from {}",
                            name_, sum, offset_, bytes, begin));
  }

  std::string name_;
  std::span<const std::byte> file_;
  VideoInfo info_;
  H264ParameterSets parameter_sets_;
  std::uint32_t length_bytes_ = 4;
  std::vector<std::uint32_t> sizes_;
  std::size_t offset_ = 0;  ///< of the next sample
  std::size_t next_ = 0;    ///< sample
  int shown_ = 0;           ///< frames
  std::optional<H264Decoder> decoder_;
};

}  // namespace

std::unique_ptr<VideoReader> open_mp4(std::span<const std::byte> file, std::string_view name) {
  return std::make_unique<Mp4Reader>(file, name);
}

}  // namespace dither
