#include "core/parallel.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#define PYREC_HAS_FORK 1
#endif

namespace pyrec {
namespace {

class Pool {
  public:
    static Pool& get() {
        static const bool registered = [] {
            instance() = new Pool;
#ifdef PYREC_HAS_FORK
            // Threads do not survive fork(): the child abandons the pool (its locks may be held by
            // threads that no longer exist) and starts afresh.
            pthread_atfork(nullptr, nullptr, [] { instance() = new Pool; });
#endif
            return true;
        }();
        (void)registered;
        return *instance();
    }

    // Runs job() on this thread and on `helpers` pool threads, and waits for all of them.
    void run(int helpers, const std::function<void()>& job) {
        std::unique_lock<std::mutex> lease(lease_, std::try_to_lock);
        if (helpers <= 0 || !lease.owns_lock()) return job();
        helpers = std::min(helpers, grow(helpers));
        {
            std::lock_guard<std::mutex> lock(mutex_);
            job_ = &job;
            wanted_ = pending_ = helpers;
            ++epoch_;
        }
        wake_.notify_all();
        job();
        std::unique_lock<std::mutex> lock(mutex_);
        done_.wait(lock, [this] { return pending_ == 0; });
    }

  private:
    static Pool*& instance() {
        static Pool* pool = nullptr;
        return pool;
    }

    // A machine that grants no more threads gets the work done with those it granted.
    int grow(int helpers) {
        try {
            for (; spawned_ < helpers; ++spawned_) std::thread(&Pool::loop, this, spawned_).detach();
        } catch (const std::system_error&) {
        }
        return spawned_;
    }

    void loop(int id) {
        for (std::uint64_t seen = 0;;) {
            std::unique_lock<std::mutex> lock(mutex_);
            wake_.wait(lock, [&] { return epoch_ != seen; });
            seen = epoch_;
            if (id >= wanted_) continue;
            const std::function<void()>& job = *job_;
            lock.unlock();
            job();
            lock.lock();
            if (--pending_ == 0) done_.notify_one();
        }
    }

    std::mutex lease_, mutex_;
    std::condition_variable wake_, done_;
    const std::function<void()>* job_ = nullptr;
    std::uint64_t epoch_ = 0;
    int wanted_ = 0, pending_ = 0, spawned_ = 0;
};

}  // namespace

void parallel_for(std::int64_t n, std::int64_t grain, int n_threads,
                  const std::function<void(std::int64_t, std::int64_t)>& body) {
    const std::int64_t chunks = (n + grain - 1) / grain;
    std::atomic<std::int64_t> next{0};
    std::exception_ptr error;
    std::mutex error_mutex;
    const auto job = [&] {
        for (std::int64_t c; (c = next.fetch_add(1)) < chunks;) {
            try {
                body(c * grain, std::min(n, (c + 1) * grain));
            } catch (...) {
                std::lock_guard<std::mutex> lock(error_mutex);
                if (!error) error = std::current_exception();
                next = chunks;
            }
        }
    };
    Pool::get().run(static_cast<int>(std::min<std::int64_t>(n_threads, chunks)) - 1, job);
    if (error) std::rethrow_exception(error);
}

}  // namespace pyrec
