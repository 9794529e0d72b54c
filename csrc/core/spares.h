#pragma once
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace pyrec {

// Working memory that tasks hand on to each other: as many objects as threads ever work at the same
// time. One a task would be mapped anew each time, which takes as long as to fill it.
template <class T> class Spares {
  public:
    explicit Spares(int n_threads) { free_.reserve(static_cast<std::size_t>(n_threads)); }

    // An object for as long as a task needs it, made by `make()` where none is spare.
    class Lease {
      public:
        template <class Make> Lease(Spares& spares, Make make) : spares_(spares), object_(spares.take()) {
            if (!object_) object_ = make();
        }
        ~Lease() { spares_.give(std::move(object_)); }
        Lease(const Lease&) = delete;
        Lease& operator=(const Lease&) = delete;
        auto get() const { return object_.get(); }

      private:
        Spares& spares_;
        std::unique_ptr<T> object_;
    };

  private:
    std::unique_ptr<T> take() {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (free_.empty()) return nullptr;
        auto object = std::move(free_.back());
        free_.pop_back();
        return object;
    }

    void give(std::unique_ptr<T> object) {  // within the room reserved: must not fail
        const std::lock_guard<std::mutex> lock(mutex_);
        free_.push_back(std::move(object));
    }

    std::mutex mutex_;
    std::vector<std::unique_ptr<T>> free_;
};

}  // namespace pyrec
