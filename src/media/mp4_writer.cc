#include <fmt/format.h>

#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "base/atomic_file.h"
#include "base/error.h"
#include "media/h264.h"
#include "media/video_formats.h"

// ISO/IEC 14496-12 (boxes), 14496-14 (brands), 14496-15 (avc1, avcC); metadata items as in Apple's
// QuickTime File Format, "Metadata": meta with handler mdta, keys, ilst.
namespace dither {
namespace {

constexpr int kQp = 16;
constexpr int kKeyFrameSeconds = 2;
constexpr std::uint32_t kTicksPerFrame = 1000;

class Boxes {
 public:
  void u8(std::uint32_t value) { bytes_.push_back(static_cast<char>(value)); }
  void u16(std::uint32_t value) {
    u8(value >> 8 & 0xFF);
    u8(value & 0xFF);
  }
  void u32(std::uint32_t value) {
    u16(value >> 16);
    u16(value & 0xFFFF);
  }
  void zeros(std::size_t count) { bytes_.append(count, 0); }
  void text(std::string_view text) { bytes_ += text; }
  void append(std::span<const std::byte> bytes) {
    bytes_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }

  /// Size and type, then what `fill` writes.
  template <typename Fill>
  void box(std::string_view type, Fill fill) {
    const std::size_t begin = bytes_.size();
    u32(0);
    text(type);
    fill();
    const std::size_t size = bytes_.size() - begin;
    for (std::size_t i = 0; i < 4; ++i) {
      bytes_[begin + i] = static_cast<char>(size >> (24 - 8 * i));
    }
  }
  /// A box that begins with version 0 and flags.
  template <typename Fill>
  void full_box(std::string_view type, std::uint32_t flags, Fill fill) {
    box(type, [&] {
      u32(flags);
      fill();
    });
  }

  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

struct Track {
  const VideoSettings& settings;
  const H264ParameterSets& parameter_sets;
  const std::vector<H264Picture>& samples;

  std::uint32_t count() const { return static_cast<std::uint32_t>(samples.size()); }
  std::uint32_t timescale() const {
    return static_cast<std::uint32_t>(settings.fps) * kTicksPerFrame;
  }
  std::uint32_t duration() const { return count() * kTicksPerFrame; }
};

void write_matrix(Boxes& out) {
  for (const std::uint32_t value : {0x10000U, 0U, 0U, 0U, 0x10000U, 0U, 0U, 0U, 0x40000000U}) {
    out.u32(value);
  }
}

// Times are 0: equal input gives equal bytes.
void write_movie_header(Boxes& out, const Track& track) {
  out.full_box("mvhd", 0, [&] {
    out.zeros(8);
    out.u32(track.timescale());
    out.u32(track.duration());
    out.u32(0x10000);  // rate 1
    out.u16(0x100);    // volume 1
    out.zeros(10);
    write_matrix(out);
    out.zeros(24);
    out.u32(2);  // next track
  });
}

void write_track_header(Boxes& out, const Track& track) {
  constexpr std::uint32_t kEnabledInMovie = 3;
  out.full_box("tkhd", kEnabledInMovie, [&] {
    out.zeros(8);
    out.u32(1);  // track
    out.u32(0);
    out.u32(track.duration());
    out.zeros(16);  // reserved, layer, alternate group, volume
    write_matrix(out);
    out.u32(static_cast<std::uint32_t>(track.settings.width) << 16);
    out.u32(static_cast<std::uint32_t>(track.settings.height) << 16);
  });
}

void write_avc_configuration(Boxes& out, const H264ParameterSets& sets) {
  constexpr std::uint32_t kHighProfile = 100;
  const std::vector<std::byte>& sps = sets.sequence.front();
  const auto write_set = [&](const std::vector<std::byte>& set) {
    out.u16(static_cast<std::uint32_t>(set.size()));
    out.append(set);
  };
  out.box("avcC", [&] {
    out.u8(1);
    out.append(std::span(sps).subspan(1, 3));  // profile, compatibility, level
    out.u8(0xFC | 3);                          // lengths have 4 bytes
    out.u8(0xE0 | static_cast<std::uint32_t>(sets.sequence.size()));
    for (const auto& set : sets.sequence) write_set(set);
    out.u8(static_cast<std::uint32_t>(sets.picture.size()));
    for (const auto& set : sets.picture) write_set(set);
    if (std::to_integer<std::uint32_t>(sps[1]) == kHighProfile) {
      out.u8(0xFC | 1);  // 4:2:0
      out.u8(0xF8);      // 8 bits
      out.u8(0xF8);
      out.u8(0);
    }
  });
}

void write_sample_description(Boxes& out, const Track& track) {
  out.full_box("stsd", 0, [&] {
    out.u32(1);
    out.box("avc1", [&] {
      out.zeros(6);
      out.u16(1);  // data reference
      out.zeros(16);
      out.u16(static_cast<std::uint32_t>(track.settings.width));
      out.u16(static_cast<std::uint32_t>(track.settings.height));
      out.u32(0x480000);  // 72 dpi
      out.u32(0x480000);
      out.u32(0);
      out.u16(1);  // frame per sample
      out.zeros(32);
      out.u16(24);      // depth
      out.u16(0xFFFF);  // no colour table
      write_avc_configuration(out, track.parameter_sets);
      out.box("colr", [&] {
        out.text("nclx");
        for (int i = 0; i < 3; ++i) out.u16(1);  // primaries, transfer, matrix: BT.709
        out.u8(0);                               // limited range
      });
      out.box("pasp", [&] {
        out.u32(1);
        out.u32(1);
      });
    });
  });
}

void write_sample_table(Boxes& out, const Track& track, std::uint32_t data_offset) {
  out.box("stbl", [&] {
    write_sample_description(out, track);
    out.full_box("stts", 0, [&] {
      out.u32(1);
      out.u32(track.count());
      out.u32(kTicksPerFrame);
    });
    std::vector<std::uint32_t> keys;
    for (std::uint32_t i = 0; i < track.count(); ++i) {
      if (track.samples[i].key_frame) keys.push_back(i + 1);
    }
    out.full_box("stss", 0, [&] {
      out.u32(static_cast<std::uint32_t>(keys.size()));
      for (const std::uint32_t key : keys) out.u32(key);
    });
    out.full_box("stsc", 0, [&] {  // one chunk holds all
      out.u32(1);
      out.u32(1);
      out.u32(track.count());
      out.u32(1);
    });
    out.full_box("stsz", 0, [&] {
      out.u32(0);
      out.u32(track.count());
      for (const H264Picture& sample : track.samples) {
        out.u32(static_cast<std::uint32_t>(sample.bytes.size()));
      }
    });
    out.full_box("stco", 0, [&] {
      out.u32(1);
      out.u32(data_offset);
    });
  });
}

void write_media(Boxes& out, const Track& track, std::uint32_t data_offset) {
  constexpr std::uint32_t kUndetermined = 0x55C4;  // "und", 5 bits a letter
  out.box("mdia", [&] {
    out.full_box("mdhd", 0, [&] {
      out.zeros(8);
      out.u32(track.timescale());
      out.u32(track.duration());
      out.u16(kUndetermined);
      out.u16(0);
    });
    out.full_box("hdlr", 0, [&] {
      out.u32(0);
      out.text("vide");
      out.zeros(13);  // reserved, an empty name
    });
    out.box("minf", [&] {
      out.full_box("vmhd", 1, [&] { out.zeros(8); });
      out.box("dinf", [&] {
        out.full_box("dref", 0, [&] {
          out.u32(1);
          out.full_box("url ", 1, [] {});  // in this file
        });
      });
      write_sample_table(out, track, data_offset);
    });
  });
}

void write_metadata(Boxes& out, const PngText& text) {
  if (text.empty()) return;
  constexpr std::uint32_t kUtf8 = 1;
  out.full_box("meta", 0, [&] {
    out.full_box("hdlr", 0, [&] {
      out.u32(0);
      out.text("mdta");
      out.zeros(13);
    });
    out.full_box("keys", 0, [&] {
      out.u32(static_cast<std::uint32_t>(text.size()));
      for (const auto& [keyword, value] : text) out.box("mdta", [&] { out.text(keyword); });
    });
    out.box("ilst", [&] {
      for (std::uint32_t i = 0; i < text.size(); ++i) {
        // An item's type is its key's number.
        const std::array<char, 4> key = {static_cast<char>((i + 1) >> 24),
                                         static_cast<char>((i + 1) >> 16),
                                         static_cast<char>((i + 1) >> 8), static_cast<char>(i + 1)};
        out.box({key.data(), key.size()}, [&] {
          out.box("data", [&] {
            out.u32(kUtf8);
            out.u32(0);  // any language
            out.text(text[i].second);
          });
        });
      }
    });
  });
}

/// Everything before the samples.
std::string head(const Track& track, std::uint32_t data_offset) {
  Boxes out;
  out.box("ftyp", [&] {
    out.text("isom");
    out.u32(0x200);
    for (const char* brand : {"isom", "iso2", "avc1", "mp41"}) out.text(brand);
  });
  out.box("moov", [&] {
    write_movie_header(out, track);
    out.box("trak", [&] {
      write_track_header(out, track);
      write_media(out, track, data_offset);
    });
    write_metadata(out, track.settings.text);
  });
  return out.bytes();
}

class Mp4Writer final : public VideoWriter {
 public:
  Mp4Writer(const std::filesystem::path& path, const VideoSettings& settings)
      : VideoWriter(path, settings),
        encoder_({.width = settings.width,
                  .height = settings.height,
                  .fps = static_cast<double>(settings.fps),
                  .qp = kQp,
                  .key_frame_interval = kKeyFrameSeconds * settings.fps}),
        file_(path) {}

 private:
  void write(const Image& frame) override {
    samples_.push_back(encoder_.encode(to_i420(frame)));
    sample_bytes_ += samples_.back().bytes.size();
  }

  void commit() override {
    const Track track{settings(), encoder_.parameter_sets(), samples_};
    constexpr std::uint64_t kBoxHead = 8;
    const std::size_t head_bytes = head(track, 0).size();
    const std::uint64_t bytes = head_bytes + kBoxHead + sample_bytes_;
    if (bytes > std::numeric_limits<std::uint32_t>::max() ||
        samples_.size() > std::numeric_limits<std::uint32_t>::max() / kTicksPerFrame) {
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("{}: {} frames in {} bytes; an MP4 of at most 4 GiB is written",
                              path().string(), samples_.size(), bytes));
    }
    file_.write(head(track, static_cast<std::uint32_t>(head_bytes + kBoxHead)));
    Boxes data;
    data.u32(static_cast<std::uint32_t>(kBoxHead + sample_bytes_));
    data.text("mdat");
    file_.write(data.bytes());
    for (const H264Picture& sample : samples_) file_.write(sample.bytes);
    file_.commit();
  }

  H264Encoder encoder_;
  AtomicFile file_;
  std::vector<H264Picture> samples_;
  std::uint64_t sample_bytes_ = 0;
};

}  // namespace

std::unique_ptr<VideoWriter> create_mp4_writer(const std::filesystem::path& path,
                                               const VideoSettings& settings) {
  return std::make_unique<Mp4Writer>(path, settings);
}

}  // namespace dither
