// SPDX-License-Identifier: Apache-2.0
// Replaces the global operator new and delete with counting ones.
#include "tests/support/allocation_counter.hpp"

#include <algorithm>
#include <cstdlib>
#include <malloc.h>
#include <new>

namespace {

struct counters {
    bool on = false;
    std::ptrdiff_t live = 0;
    std::ptrdiff_t peak = 0;
    std::size_t largest = 0;
};

constinit thread_local counters mine;

void* counted(void* memory) {
    if (!memory)
        throw std::bad_alloc{};
    if (mine.on) {
        const auto bytes = malloc_usable_size(memory);
        mine.live += static_cast<std::ptrdiff_t>(bytes);
        mine.peak = std::max(mine.peak, mine.live);
        mine.largest = std::max(mine.largest, bytes);
    }
    return memory;
}

void uncounted(void* memory) noexcept {
    if (mine.on && memory)
        mine.live -= static_cast<std::ptrdiff_t>(malloc_usable_size(memory));
    std::free(memory);
}

} // namespace

void* operator new(std::size_t bytes) {
    return counted(std::malloc(bytes ? bytes : 1));
}
void* operator new[](std::size_t bytes) {
    return counted(std::malloc(bytes ? bytes : 1));
}
void* operator new(std::size_t bytes, std::align_val_t alignment) {
    const auto unit = static_cast<std::size_t>(alignment);
    return counted(std::aligned_alloc(unit, (bytes + unit) / unit * unit));
}
void operator delete(void* memory) noexcept {
    uncounted(memory);
}
void operator delete[](void* memory) noexcept {
    uncounted(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
    uncounted(memory);
}
void operator delete[](void* memory, std::size_t) noexcept {
    uncounted(memory);
}
void operator delete(void* memory, std::align_val_t) noexcept {
    uncounted(memory);
}
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
    uncounted(memory);
}

namespace kvferry::testing {

allocation_scope::allocation_scope() {
    mine = {true, 0, 0, 0};
}
allocation_scope::~allocation_scope() {
    mine.on = false;
}

std::size_t allocation_scope::peak_bytes() const {
    return static_cast<std::size_t>(mine.peak);
}
std::size_t allocation_scope::largest_bytes() const {
    return mine.largest;
}

} // namespace kvferry::testing
