#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ostream>

#include "base/test_util.h"
#include "pipelines/pipeline.h"

/// What the tests of all families' requests share: rows of tables, and what holds for each. A
/// family's Limits are what its check_request() takes.
namespace dither {

/// A change of an empty request, and the words that answer it.
struct RequestCase {
  void (*change)(GenerateRequest&);
  const char* message;

  GenerateRequest request() const {
    GenerateRequest changed;
    change(changed);
    return changed;
  }
};

inline void PrintTo(const RequestCase& row, std::ostream* out) { *out << row.message; }

/// The request is refused with the message, word for word.
template <typename Limits>
void expect_refused(const RequestCase& row, const Limits& limits) {
  const Error error = error_of([&] { check_request(row.request(), limits); });
  EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
  EXPECT_STREQ(error.what(), row.message);
}

/// The request is taken with one warning, which has the message in it.
template <typename Limits>
void expect_warned(const RequestCase& row, const Limits& limits) {
  EXPECT_THAT(check_request(row.request(), limits).warnings,
              ::testing::ElementsAre(::testing::HasSubstr(row.message)));
}

}  // namespace dither
