// SPDX-License-Identifier: Apache-2.0
// Memory that goes round: a thread that makes and destroys the same objects again and again, as a
// rank's does with sessions and lists of decisions, takes what the last one gave back.
//
// The allocator of the C library is quick with small blocks of which few are free at a time. Blocks
// above 1 KiB make it join its free ones each time, and sessions come and go by the thousand.
#pragma once

#include <cstddef>
#include <vector>

namespace kvferry {

/// As operator new and delete, any thread.
void* take_memory(std::size_t bytes);
void give_memory(void* block, std::size_t bytes) noexcept;

/// Largest block that goes round.
inline constexpr std::size_t recycled_block_bytes_max = 8192;
/// Free blocks of one size that are kept beside some sixty of each thread.
inline constexpr std::size_t recycled_bytes_max = std::size_t{512} << 10;

/// Objects of one type that go round as they are, constructed: they are dear to make.
class kept_objects {
public:
    /// `destroy` ends one that is not kept and frees its memory; any thread. At most eight of them
    /// in a process, each for ever.
    kept_objects(std::size_t bytes, void (*destroy)(void*) noexcept);

    /// Null: there is none.
    void* take() const;
    /// Its first 16 bytes are overwritten.
    void keep(void* object) const noexcept;

private:
    std::size_t index_;
};

/// For containers.
template <class T>
struct recycling {
    using value_type = T;

    recycling() = default;
    template <class U>
    recycling(const recycling<U>&) noexcept {}

    T* allocate(std::size_t count) {
        static_assert(alignof(T) <= alignof(std::max_align_t));
        return static_cast<T*>(take_memory(count * sizeof(T)));
    }
    void deallocate(T* block, std::size_t count) noexcept { give_memory(block, count * sizeof(T)); }

    friend bool operator==(const recycling&, const recycling&) { return true; }
};

template <class T>
using recycled_vector = std::vector<T, recycling<T>>;

} // namespace kvferry
