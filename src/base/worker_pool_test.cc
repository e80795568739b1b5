#include "base/worker_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

namespace dither {
namespace {

TEST(WorkerPool, EveryWorkerWorksOnceARunOnItsOwnThread) {
  WorkerPool pool(4);
  ASSERT_EQ(pool.workers(), 4);
  for (int run = 0; run < 100; ++run) {
    std::vector<std::atomic<int>> calls(4);
    std::vector<std::thread::id> threads(4);
    pool.run([&](int worker) {
      ++calls[static_cast<std::size_t>(worker)];
      threads[static_cast<std::size_t>(worker)] = std::this_thread::get_id();
    });
    for (const auto& count : calls) EXPECT_EQ(count, 1);
    EXPECT_EQ(threads[0], std::this_thread::get_id());
    EXPECT_NE(threads[1], threads[2]);
  }
}

TEST(WorkerPool, OneWorkerIsTheCaller) {
  WorkerPool pool(1);
  int calls = 0;
  pool.run([&](int worker) { calls += worker == 0 ? 1 : 100; });
  EXPECT_EQ(calls, 1);
}

TEST(WorkerPool, ThrowsWhatAWorkerThrewOnceAllAreDone) {
  for (const int thrower : {0, 2}) {
    WorkerPool pool(3);
    std::atomic<int> calls = 0;
    EXPECT_THROW(pool.run([&](int worker) {
      ++calls;
      if (worker == thrower) throw std::runtime_error("no");
    }),
                 std::runtime_error);
    EXPECT_EQ(calls, 3);
    pool.run([&](int) { ++calls; });  // is none the worse for it
    EXPECT_EQ(calls, 6);
  }
}

}  // namespace
}  // namespace dither
