#include "pipelines/flux2/flux2_reference.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "base/error.h"
#include "io/untrusted_name.h"
#include "media/resize.h"

namespace dither {
namespace {

constexpr std::size_t kMaxReferences = 16;
constexpr int kMinSide = 64;
constexpr int kMaxAspectRatio = 8;

ImageSize bounded_size(ImageSize given, std::int64_t most) {
  const std::int64_t area = std::int64_t{given.width} * given.height;
  if (area <= most) return given;
  const double scale = std::sqrt(static_cast<double>(most) / static_cast<double>(area));
  return {static_cast<int>(given.width * scale), static_cast<int>(given.height * scale)};
}

}  // namespace

void check_references(const std::vector<ReferenceImage>& references) {
  if (references.size() > kMaxReferences) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("image-path: {} reference pictures, at most {} are taken",
                            references.size(), kMaxReferences));
  }
  for (const auto& [path, image] : references) {
    const auto [shorter, longer] = std::minmax(image.width, image.height);
    if (shorter >= kMinSide && longer <= std::int64_t{kMaxAspectRatio} * shorter) continue;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("image-path {}: {}x{}; a reference picture has at least {} pixels a "
                            "side and is at most {} times as long as wide",
                            quote(path), image.width, image.height, kMinSide, kMaxAspectRatio));
  }
}

std::int64_t reference_area(ReferenceLimit limit, std::size_t count) {
  const std::int64_t side = limit == ReferenceLimit::kBfl && count == 1 ? 2024 : 1024;
  return side * side;
}

ReferencePreparation reference_preparation(const RequestExtent& extent, int multiple) {
  return {.multiple = multiple,
          .area = reference_area(extent.reference_limit, extent.references.size())};
}

ImageSize ReferencePreparation::size(ImageSize given) const {
  const ImageSize bounded = bounded_size(given, area);
  return {bounded.width / multiple * multiple, bounded.height / multiple * multiple};
}

Image ReferencePreparation::operator()(const Image& image) const {
  const ImageSize given{image.width, image.height};
  const ImageSize bounded = bounded_size(given, area);
  const ImageSize cut = size(given);
  return center_crop(resize_lanczos(image, bounded.width, bounded.height), cut.width, cut.height);
}

}  // namespace dither
