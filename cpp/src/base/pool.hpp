// Workspaces shared by calls that may come from several threads at once: each call borrows one for itself.
#pragma once

#include "base/namespace.hpp"

#include <array>
#include <atomic>
#include <memory>

LSTMCORE_BEGIN_NAMESPACE

/// Keeps idle items in slots that are emptied and filled by one atomic exchange each. There is no lock that another
/// thread could hold while a process forks: the child would wait for it for ever.
template <class Item>
class Pool {
 public:
  Pool() = default;
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  ~Pool() {
    for (std::atomic<Item*>& slot : idle_) delete slot.load(std::memory_order_acquire);
  }

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
  std::unique_ptr<Item> take() {
    for (std::atomic<Item*>& slot : idle_) {
      if (slot.load(std::memory_order_relaxed) == nullptr) continue;
      if (Item* item = slot.exchange(nullptr, std::memory_order_acquire)) return std::unique_ptr<Item>(item);
    }
    return std::make_unique<Item>();
  }

  void give_back(std::unique_ptr<Item> item) noexcept {
    for (std::atomic<Item*>& slot : idle_) {
      Item* empty = nullptr;
      if (slot.compare_exchange_strong(empty, item.get(), std::memory_order_release, std::memory_order_relaxed)) {
        static_cast<void>(item.release());
        return;
      }
    }
  }

  // More idle items than that are dropped: they were a burst of threads.
  std::array<std::atomic<Item*>, 8> idle_{};
};

LSTMCORE_END_NAMESPACE
