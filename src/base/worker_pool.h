#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace dither {

/// Threads that do the same work together, time after time, without being started for each.
class WorkerPool {
 public:
  /// `workers`, at least 1: the thread that calls run() is one of them.
  explicit WorkerPool(int workers);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  int workers() const { return static_cast<int>(threads_.size()) + 1; }

  /// work(i) for every i in [0, workers()), each on a thread of its own, 0 on the caller's. Returns
  /// when all have returned, and throws what the first of them threw. One run at a time.
  void run(const std::function<void(int)>& work);

 private:
  void serve(int worker);
  void do_one(int worker) noexcept;

  std::mutex mutex_;
  std::condition_variable begun_;
  std::condition_variable done_;
  const std::function<void(int)>* work_ = nullptr;
  std::uint64_t runs_ = 0;  ///< begun so far
  int busy_ = 0;            ///< threads that have not done the latest one
  bool stopping_ = false;
  std::exception_ptr failure_;
  std::vector<std::thread> threads_;
};

}  // namespace dither
