// SPDX-License-Identifier: Apache-2.0
// A list of free blocks for each size and thread; what is too much for one is left to others.
#include "messages/local/recycled.hpp"

#include <array>
#include <mutex>
#include <new>

namespace kvferry {

namespace {

/// Sizes are rounded up to this.
constexpr std::size_t unit_bytes = 64;
constexpr std::size_t size_count = recycled_block_bytes_max / unit_bytes + 1;

// Tools that watch memory must see each block come and go.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool goes_round = false;
#else
constexpr bool goes_round = true;
#endif

struct free_block {
    free_block* next;
    /// Of the first of a batch.
    free_block* next_batch = nullptr;
};

constexpr std::size_t index_of(std::size_t bytes) {
    return (bytes + unit_bytes - 1) / unit_bytes;
}
constexpr std::size_t rounded(std::size_t index) {
    return (index == 0 ? 1 : index) * unit_bytes;
}

struct free_list {
    free_block* first = nullptr;
    std::size_t blocks = 0;

    void push(void* memory) {
        first = new (memory) free_block{first};
        ++blocks;
    }
    void* pop() {
        auto* const block = first;
        first = block->next;
        --blocks;
        return block;
    }
    void release() {
        while (first)
            ::operator delete(pop());
    }
};

/// Blocks that change threads at a time.
constexpr std::size_t batch_blocks = 32;

/// Where threads that free more than they take leave what those take that free less: a session is
/// made by its host's thread and ends on its rank's. Nobody waits for its lock.
class depot {
public:
    /// A batch; false: it is the caller's still.
    bool leave(std::size_t index, free_list batch) {
        const std::unique_lock lock{mutex_, std::try_to_lock};
        if (!lock)
            return false;
        auto& kept = kept_[index];
        if ((kept.batches + 1) * batch_blocks * rounded(index) > recycled_bytes_max)
            return false;
        batch.first->next_batch = kept.first;
        kept = {batch.first, kept.batches + 1};
        return true;
    }
    free_list take(std::size_t index) {
        const std::unique_lock lock{mutex_, std::try_to_lock};
        if (!lock || !kept_[index].first)
            return {};
        auto& kept = kept_[index];
        const free_list batch{kept.first, batch_blocks};
        kept = {kept.first->next_batch, kept.batches - 1};
        return batch;
    }

private:
    struct batch_list {
        free_block* first = nullptr;
        std::size_t batches = 0;
    };
    std::mutex mutex_;
    std::array<batch_list, size_count> kept_ = {};
};

depot& everybodys() {
    static auto* instance = new depot; // threads may end after static destructors
    return *instance;
}

// Of each thread. No constructor and no destructor, which would be looked for at each use.
constinit thread_local std::array<free_list, size_count> lists{};
/// Its end is seen to; from there on blocks go straight back.
enum class stage { before, during, after };
constinit thread_local stage now_in = stage::before;

struct ending {
    ~ending() {
        now_in = stage::after;
        for (auto& list : lists)
            list.release();
    }
};

/// Whether this thread has lists.
bool has_lists() {
    if (now_in == stage::before) [[unlikely]] {
        thread_local const ending at_last;
        now_in = stage::during;
    }
    return now_in == stage::during;
}

// What is seldom needed is kept out of the two below, which are a dozen instructions each.
[[gnu::noinline]] void* take_new(std::size_t bytes) {
    if (!goes_round || bytes > recycled_block_bytes_max)
        return ::operator new(bytes);
    const auto index = index_of(bytes);
    if (!has_lists()) // whoever gets the block may have
        return ::operator new(rounded(index));
    auto& list = lists[index];
    if (!list.first)
        list = everybodys().take(index);
    return list.first ? list.pop() : ::operator new(rounded(index));
}

[[gnu::noinline]] void give_away(void* block, std::size_t bytes) noexcept {
    if (!goes_round || bytes > recycled_block_bytes_max || !has_lists())
        return ::operator delete(block);
    const auto index = index_of(bytes);
    auto& list = lists[index];
    list.push(block);
    if (list.blocks < 2 * batch_blocks)
        return;
    free_list batch;
    while (batch.blocks < batch_blocks)
        batch.push(list.pop());
    if (!everybodys().leave(index, batch))
        batch.release();
}

} // namespace

void* take_memory(std::size_t bytes) {
    if (bytes <= recycled_block_bytes_max)
        if (auto& list = lists[index_of(bytes)]; list.first) [[likely]]
            return list.pop();
    return take_new(bytes);
}

void give_memory(void* block, std::size_t bytes) noexcept {
    if (!block)
        return;
    if (bytes <= recycled_block_bytes_max && now_in == stage::during)
        if (auto& list = lists[index_of(bytes)]; list.blocks < 2 * batch_blocks - 1) [[likely]]
            return list.push(block);
    give_away(block, bytes);
}

} // namespace kvferry
