// SPDX-License-Identifier: Apache-2.0
// A list of free blocks for each size and thread; what is too much for one is left to others.
#include "messages/local/recycled.hpp"

#include <array>
#include <atomic>
#include <cstdlib>
#include <mutex>
#include <new>
#include <utility>

namespace kvferry {

namespace {

/// Sizes are rounded up to this.
constexpr std::size_t unit_bytes = 64;
constexpr std::size_t size_count = recycled_block_bytes_max / unit_bytes + 1;
/// Lists of kept objects follow those of blocks.
constexpr std::size_t kinds_max = 8;
constexpr std::size_t list_count = size_count + kinds_max;

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

struct kind {
    std::size_t bytes = 0;
    void (*destroy)(void*) noexcept = nullptr;
};
/// Each is written once, before its first object is made.
constinit std::array<kind, kinds_max> kinds{};
constinit std::atomic<std::size_t> kind_count{0};

constexpr bool is_kind(std::size_t index) {
    return index >= size_count;
}
std::size_t bytes_of(std::size_t index) {
    return is_kind(index) ? kinds[index - size_count].bytes : rounded(index);
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
    /// `index`: whose list it is.
    void release(std::size_t index) {
        while (first)
            is_kind(index) ? kinds[index - size_count].destroy(pop()) : ::operator delete(pop());
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
        if ((kept.batches + 1) * batch_blocks * bytes_of(index) > recycled_bytes_max)
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
    std::array<batch_list, list_count> kept_ = {};
};

depot& everybodys() {
    static auto* instance = new depot; // threads may end after static destructors
    return *instance;
}

/// Of each thread, by index; null before their first use and after the thread's last. The pointer
/// alone is the thread's: a library that is loaded late has little room for what threads have.
constinit thread_local free_list* lists = nullptr;
/// The thread's end has been seen to, or is over.
constinit thread_local bool has_begun = false;

struct ending {
    ~ending() {
        auto* const all = std::exchange(lists, nullptr);
        // Kept objects first: they may give back blocks.
        for (auto index = list_count; all && index-- > 0;)
            all[index].release(index);
        delete[] all;
    }
};

/// Whether this thread has lists.
bool has_lists() {
    if (!has_begun) [[unlikely]] {
        has_begun = true;
        lists = new (std::nothrow) free_list[list_count]; // without them nothing goes round
        thread_local const ending at_last;
    }
    return lists != nullptr;
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

void put(std::size_t index, void* block) noexcept {
    auto& list = lists[index];
    list.push(block);
    if (list.blocks < 2 * batch_blocks)
        return;
    free_list batch;
    while (batch.blocks < batch_blocks)
        batch.push(list.pop());
    if (!everybodys().leave(index, batch))
        batch.release(index);
}

[[gnu::noinline]] void give_away(void* block, std::size_t bytes) noexcept {
    if (!goes_round || bytes > recycled_block_bytes_max || !has_lists())
        return ::operator delete(block);
    put(index_of(bytes), block);
}

} // namespace

void* take_memory(std::size_t bytes) {
    if (auto* const all = lists; all && bytes <= recycled_block_bytes_max) [[likely]]
        if (auto& list = all[index_of(bytes)]; list.first) [[likely]]
            return list.pop();
    return take_new(bytes);
}

void give_memory(void* block, std::size_t bytes) noexcept {
    if (!block)
        return;
    if (auto* const all = lists; all && bytes <= recycled_block_bytes_max) [[likely]]
        if (auto& list = all[index_of(bytes)]; list.blocks < 2 * batch_blocks - 1) [[likely]]
            return list.push(block);
    give_away(block, bytes);
}

kept_objects::kept_objects(std::size_t bytes, void (*destroy)(void*) noexcept)
    : index_(size_count + kind_count.fetch_add(1)) {
    if (index_ >= list_count) // a fact about our own code
        std::abort();
    kinds[index_ - size_count] = {bytes, destroy};
}

void* kept_objects::take() const {
    if (!goes_round || !has_lists())
        return nullptr;
    auto& list = lists[index_];
    if (!list.first)
        list = everybodys().take(index_);
    return list.first ? list.pop() : nullptr;
}

void kept_objects::keep(void* object) const noexcept {
    if (!goes_round || !has_lists())
        kinds[index_ - size_count].destroy(object);
    else
        put(index_, object);
}

} // namespace kvferry
