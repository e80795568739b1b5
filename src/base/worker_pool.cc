#include "base/worker_pool.h"

#include <utility>

namespace dither {

WorkerPool::WorkerPool(int workers) {
  for (int worker = 1; worker < workers; ++worker) {
    threads_.emplace_back([this, worker] { serve(worker); });
  }
}

WorkerPool::~WorkerPool() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  begun_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void WorkerPool::do_one(int worker) noexcept {
  try {
    (*work_)(worker);
  } catch (...) {
    const std::scoped_lock lock(mutex_);
    if (!failure_) failure_ = std::current_exception();
  }
}

void WorkerPool::serve(int worker) {
  std::uint64_t seen = 0;
  std::unique_lock lock(mutex_);
  while (true) {
    begun_.wait(lock, [&] { return stopping_ || runs_ != seen; });
    if (stopping_) return;
    seen = runs_;
    lock.unlock();
    do_one(worker);
    lock.lock();
    if (--busy_ == 0) done_.notify_one();
  }
}

void WorkerPool::run(const std::function<void(int)>& work) {
  {
    const std::scoped_lock lock(mutex_);
    work_ = &work;
    busy_ = static_cast<int>(threads_.size());
    ++runs_;
  }
  begun_.notify_all();
  do_one(0);
  std::unique_lock lock(mutex_);
  done_.wait(lock, [&] { return busy_ == 0; });
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

}  // namespace dither
