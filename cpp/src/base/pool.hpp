// Workspaces shared by calls that may come from several threads at once: each call borrows one for itself.
#pragma once

#include "base/namespace.hpp"

#include <memory>
#include <mutex>
#include <vector>

LSTMCORE_BEGIN_NAMESPACE

template <class Item>
class Pool {
 public:
  /// Gives the item back to the pool at the end of the scope.
  class Loan {
   public:
    explicit Loan(Pool& pool) : pool_(pool), item_(pool.take()) {}
    ~Loan() { pool_.give_back(std::move(item_)); }
    Loan(const Loan&) = delete;
    Loan& operator=(const Loan&) = delete;
    Item& operator*() const noexcept { return *item_; }
    Item* operator->() const noexcept { return item_.get(); }

   private:
    Pool& pool_;
    std::unique_ptr<Item> item_;
  };

  Loan borrow() { return Loan(*this); }

 private:
  // More idle items than that are dropped: they were a burst of threads.
  static constexpr std::size_t kIdle = 8;

  std::unique_ptr<Item> take() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!idle_.empty()) {
        std::unique_ptr<Item> item = std::move(idle_.back());
        idle_.pop_back();
        return item;
      }
      idle_.reserve(kIdle);  // so that giving back cannot fail
    }
    return std::make_unique<Item>();
  }

  void give_back(std::unique_ptr<Item> item) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (idle_.size() < kIdle) idle_.push_back(std::move(item));
  }

  std::mutex mutex_;
  std::vector<std::unique_ptr<Item>> idle_;
};

LSTMCORE_END_NAMESPACE
