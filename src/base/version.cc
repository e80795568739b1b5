#include "base/version.h"

namespace dither {

std::string_view version() { return DITHER_VERSION; }
std::string_view commit_hash() { return DITHER_COMMIT; }

}  // namespace dither
